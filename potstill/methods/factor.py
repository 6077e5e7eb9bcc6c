"""Factor transfer.

Jangho Kim, SeongUk Park, Nojun Kwak: Paraphrasing Complex Network: Network Compression via Factor Transfer. NeurIPS
2018, arXiv:1802.04977.

Errata: the authors compare whole factors (weight 500, paraphraser trained with an L1 reconstruction for 5 epochs, half
the channels) and have no batch norm anywhere; widely copied tables collapse a factor to its mean square over channels
first (weight 200, squared reconstruction, 30 epochs at a learning rate of 0.01) and put batch norm into the translator
alone. The two are on unlike scales.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.errors import UserError
from potstill.gram import precise, unit
from potstill.maps import expect_pairs, expect_same_shape, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

Phase = Literal["paraphrase", "transfer"]


def factor_loss(
    student: Float[Tensor, "n c h w"], teacher: Float[Tensor, "n k y x"], *, collapse: bool = False
) -> Float[Tensor, ""]:
    """Mean over all elements of |n(student) − n(teacher)|, n being the factor, flattened and of unit length.

    Args:
        student: The student's factor, from its translator.
        teacher: The teacher's factor, from its paraphraser, detached here.
        collapse: Whether a factor is first reduced to its mean square over channels.

    Raises:
        UserError: the factors are of unlike shape.
    """
    expect_same_shape(student, teacher)
    s, t = precise(student), precise(teacher.detach())
    if collapse:
        s, t = s.square().mean(1), t.square().mean(1)
    return (unit(s.flatten(1)) - unit(t.flatten(1))).abs().mean()


def _layers(kind: type[nn.Conv2d] | type[nn.ConvTranspose2d], *widths: int, norm: bool = False) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        parts += [kind(inputs, outputs, 3, padding=1), *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(0.1)]
    return nn.Sequential(*parts)


class Factors(nn.Module):
    """The two sides of a pair: a paraphraser of the teacher's map, and a translator of the student's.

    Each convolution is 3×3, with a bias, and a leaky ReLU of slope 0.1 follows it.

    Attributes:
        paraphraser: Three convolutions to the factor; its channels are a share of the teacher's.
        restorer: Three transposed convolutions back to the teacher's map, used while the paraphraser learns.
        translator: Three convolutions from the student's map to as many channels as the factor has.
    """

    def __init__(self, student: int, teacher: int, share: float, *, norm: bool = False):
        super().__init__()
        width = max(int(teacher * share), 1)
        self.paraphraser = _layers(nn.Conv2d, teacher, teacher, width, width)
        self.restorer = _layers(nn.ConvTranspose2d, width, width, teacher, teacher)
        self.translator = _layers(nn.Conv2d, student, student, width, width, norm=norm)

    def restored(self, teacher: Tensor) -> Tensor:
        """The teacher's map, through its factor and back."""
        return self.restorer(self.paraphraser(teacher))

    def compared(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Both factors, each in its map's size; the paraphraser is frozen."""
        with torch.no_grad():
            factor = self.paraphraser(teacher)
        return self.translator(student), factor


@dataclass(frozen=True, kw_only=True)
class Factor(Term):
    """Factor transfer: the student's translation of its map matches the teacher's paraphrase of its own.

    It takes two stages with one term name, so that what the first learned is there in the second: `Factor(phase=
    "paraphrase")` alone with `train=("learned.factor.*.paraphraser.*", "learned.factor.*.restorer.*")`, then
    `Factor()` beside the labels.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
        phase: "paraphrase" trains the paraphraser to reconstruct the teacher's map; "transfer" the student.
        share: k: channels of the factor as a share of the teacher's, in (0, 1].
        collapse: Whether factors are reduced to their mean square over channels, reconstructions compared by squares
            instead of absolute values, and the translator has batch norm.
    """

    weight: float = 500.0
    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)
    phase: Phase = "transfer"
    share: float = 0.5
    collapse: bool = False

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Kim, Park, Kwak 2018, arXiv:1802.04977"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if self.phase not in get_args(Phase):
            raise UserError(
                f"The phase of {self.key!r} is {self.phase!r}; expected one of {', '.join(get_args(Phase))}."
            )
        if not 0 < self.share <= 1:
            raise UserError(f"The share of {self.key!r} is {self.share:g}; expected a number above 0, up to 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair a paraphraser with its way back, and a translator; this phase's are to be learned."""
        pairs = map_pairs(self, student, teacher)
        parts = [Factors(s.shape[1], t.shape[1], self.share, norm=self.collapse) for s, t in pairs]
        for part in parts:
            part.requires_grad_(self.phase == "paraphrase")
            part.translator.requires_grad_(self.phase == "transfer")
        return nn.ModuleList(parts)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`factor_loss` of each pair, the larger factor pooled, added; or the error of reconstruction."""
        assert isinstance(learned, nn.ModuleList)
        losses: list[Tensor] = []
        for part, (s, t) in zip(learned, map_pairs(self, student, teacher), strict=True):
            assert isinstance(part, Factors)
            if self.phase == "paraphrase":
                distance = F.mse_loss if self.collapse else F.l1_loss
                losses.append(distance(precise(part.restored(t)), precise(t)))
            else:
                losses.append(factor_loss(*match_size(*part.compared(s, t)), collapse=self.collapse))
        return torch.stack(losses).sum()
