"""Activations as maps and as vectors, taken in pairs: how those of unlike sizes and kinds meet.

Activations are maps (N, C, H, W), vectors (N, D), or the tokens of a transformer (N, T, C), which are read as the map
that they were cut from.
"""

import math

from torch import Tensor
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.term import Term, expect_teacher
from potstill.types import Trace


def told(x: Tensor) -> str:
    """The shape of an activation for a person: `(N, 64, 8, 8)`."""
    return f"({', '.join(['N', *map(str, x.shape[1:])])})"


def as_map(x: Tensor, name: str = "The activation") -> Tensor:
    """An activation as a map (N, C, H, W): a map itself, or tokens laid out in a square, without a class token.

    Args:
        x: (N, C, H, W) or (N, T, C).
        name: What a refusal calls it.

    Raises:
        UserError: it is a vector, or its tokens make no square.
    """
    if x.dim() == 4:
        return x
    if x.dim() == 3:
        N, T, C = x.shape
        for extra in (0, 1):
            side = math.isqrt(T - extra)
            if side and side**2 == T - extra:
                return x[:, extra:].transpose(1, 2).reshape(N, C, side, side)
        raise UserError(f"{name} holds {T} tokens, {told(x)}, which make no square map; tap a map, or square tokens.")
    raise UserError(
        f"{name} is of shape {told(x)}; expected a map (N, C, H, W) or tokens (N, T, C): tap a layer of it."
    )


def as_vector(x: Tensor) -> Tensor:
    """An activation as one vector per image, (N, D): the mean over positions of a map or over tokens."""
    return x if x.dim() == 2 else x.flatten(2).mean(2) if x.dim() == 4 else x.mean(1)


def match_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the lesser height and width of the two: the larger one is average-pooled (adaptively)."""
    size = (min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3]))
    return _pooled_to(student, size), _pooled_to(teacher, size)


def _pooled_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)


def expect_same_size(student: Tensor, teacher: Tensor) -> None:
    """Refuses maps of unlike height or width.

    Raises:
        UserError: they are.
    """
    if student.shape[2:] != teacher.shape[2:]:
        raise UserError(
            f"The student's map is {told(student)} and the teacher's {told(teacher)}; expected equal heights and "
            "widths: pool the larger one (potstill.connect.match_size)."
        )


def expect_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Refuses activations of unlike shape.

    Raises:
        UserError: they are.
    """
    if student.shape != teacher.shape:
        raise UserError(
            f"The student's activation is {told(student)} and the teacher's {told(teacher)}; expected equal shapes: "
            "connect them first (potstill.connect)."
        )


def expect_pairs(term: Term) -> None:
    """Refuses taps that do not pair, for terms that compare layer with layer.

    Raises:
        UserError: there are none, or more on one side.
    """
    ours, theirs = len(term.student_taps), len(term.teacher_taps)
    if ours != theirs or not ours:
        raise UserError(
            f"The term {term.key!r} compares {ours} of the student's taps with {theirs} of the teacher's; "
            "expected pairs, at least one."
        )


def expect_taps(term: Term) -> None:
    """Refuses a side without taps, for terms that compare all layers with all.

    Raises:
        UserError: there is one.
    """
    if not term.student_taps or not term.teacher_taps:
        raise UserError(
            f"The term {term.key!r} compares {len(term.student_taps)} of the student's taps with "
            f"{len(term.teacher_taps)} of the teacher's; expected at least one on either side."
        )


def student_maps(term: Term, student: Trace) -> list[Tensor]:
    """The student's activations that a term asked for, as maps.

    Raises:
        UserError: one is a vector.
    """
    return [as_map(student.taps[tap], _called(term, "student", tap)) for tap in term.student_taps]


def teacher_maps(term: Term, teacher: Trace | None) -> list[Tensor]:
    """The teacher's activations that a term asked for, as maps.

    Raises:
        UserError: one is a vector, or there is no teacher.
    """
    taps = expect_teacher(term, teacher).taps
    return [as_map(taps[tap], _called(term, "teacher", tap)) for tap in term.teacher_taps]


def map_pairs(term: Term, student: Trace, teacher: Trace | None) -> list[tuple[Tensor, Tensor]]:
    """The maps that a term compares, student first, each in its own size.

    Raises:
        UserError: one is a vector, or there is no teacher.
    """
    return list(zip(student_maps(term, student), teacher_maps(term, teacher), strict=True))


def expect_same_channels(term: Term, student: Trace, teacher: Trace | None) -> None:
    """Refuses pairs of maps with unlike channels, for terms without a connector.

    Raises:
        UserError: a pair has.
    """
    taps = zip(term.student_taps, term.teacher_taps, strict=True)
    for (ours, theirs), (s, t) in zip(taps, map_pairs(term, student, teacher), strict=True):
        if s.shape[1] != t.shape[1]:
            raise UserError(
                f"The term {term.key!r} compares maps channel by channel, but the student's {ours!r} is {told(s)} and "
                f"the teacher's {theirs!r} {told(t)}; choose layers of equal width, or a method with a connector."
            )


def _called(term: Term, who: str, tap: str) -> str:
    return f"The term {term.key!r} compares maps, but the {who}'s {tap!r}"
