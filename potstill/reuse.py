"""Students that take over their teacher's classifier (see `potstill.models.ReusedHead`)."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.maps import as_map, told
from potstill.models import ReusedHead, aliases
from potstill.models.parts import Chain, by_path
from potstill.places import classifier
from potstill.taps import trace


class ReusedClassifier(nn.Linear):
    """The teacher's classifier: part of the student that ships, and learned by nothing."""

    def __init__(self, linear: nn.Linear):
        state = linear.state_dict()
        super().__init__(linear.in_features, linear.out_features, bias="bias" in state)
        self.load_state_dict(state)

    def forward(self, input: Tensor) -> Tensor:
        """(N, D) to (N, K); the gradient goes to the input alone."""
        bias = cast("Tensor | None", self.bias)
        return nn.functional.linear(input, self.weight.detach(), None if bias is None else bias.detach())


def reuse(student: nn.Module, teacher: nn.Module, head: ReusedHead, shape: tuple[int, int, int]) -> Chain:
    """The student's lower part, a projector sized by a dry run, and the teacher's classifier.

    Args:
        student: A network that runs its parts one after another, as those of the own zoo do; its parts are used.
        teacher: A network whose classifier reads the mean of a map; it is copied.
        head: Which maps meet, and how.
        shape: (C, H, W) of an image.

    Returns:
        The student that ships. The projector's tap is "projected"; aliases of the lower part stay.

    Raises:
        UserError: the student cannot be cut there, or the teacher does more between its map and its classifier.
    """
    lower = _up_to(student, head.student)
    teacher = copy.deepcopy(teacher).float().cpu().eval()
    linear = classifier(teacher, "teacher")
    images = torch.linspace(-1, 1, 2 * shape[0] * shape[1] * shape[2]).reshape(2, *shape)
    with torch.no_grad():
        answer = trace(teacher, aliases=aliases(teacher))(images, (head.teacher,))
        theirs = as_map(answer.taps[head.teacher], f"The teacher's {head.teacher!r}")
        ours = as_map(copy.deepcopy(lower).eval()(images), f"The student's {head.student!r}")
        reads_the_mean = theirs.shape[1] == linear.in_features and torch.allclose(
            linear(theirs.mean((2, 3))), answer.logits, rtol=1e-3, atol=1e-4
        )
    if not reads_the_mean:
        raise UserError(
            f"The teacher's classifier does not read the mean of its {head.teacher!r}, {told(theirs)}; "
            "name the teacher's last map, from behind its last activation."
        )
    larger = ours.shape[2] > theirs.shape[2]
    shrink: dict[str, nn.Module] = {"shrink": nn.AdaptiveAvgPool2d(theirs.shape[2:])} if larger else {}
    return Chain(
        {
            "trunk": lower,
            **shrink,
            "projector": head.projector.build(ours, theirs),
            "pool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc": ReusedClassifier(linear),
        },
        {alias: f"trunk.{path}" for alias, path in lower.aliases.items()}
        | {"projected": "projector", "pooled": "fc:in", "logits": "fc"},
    )


def _up_to(student: nn.Module, tap: str) -> Chain:
    """The parts of a network up to the one that a tap names."""
    named = aliases(student)
    parts = _cut(student, named.get(tap, tap))
    if parts is None:
        places = [alias for alias, path in named.items() if alias != "logits" and _cut(student, path)]
        raise UserError(
            f"The student, a {type(student).__name__}, cannot be cut at {tap!r}; expected a network that runs its "
            "parts one after another, as those of the own zoo do, and one of them: "
            f"{' or '.join(map(repr, places)) or 'a part of it'}."
        )
    inside = by_path(Chain(parts))
    return Chain(parts, {alias: path for alias, path in named.items() if path.partition(":")[0] in inside})


def _cut(network: nn.Module, path: str) -> dict[str, nn.Module] | None:
    """The parts of a sequence up to the one at a path, which may lie in a sequence in it; None where none does."""
    name, _, rest = path.partition(".")
    parts = dict(network.named_children())
    if not isinstance(network, nn.Sequential) or name not in parts:
        return None
    kept = {part: parts[part] for part in list(parts)[: list(parts).index(name) + 1]}
    if rest:
        inner = _cut(parts[name], rest)
        return None if inner is None else {**kept, name: Chain(inner)}
    return kept
