"""Maximum mean discrepancy.

Zehao Huang, Naiyan Wang: Like What You Like: Knowledge Distill via Neuron Selectivity Transfer. 2017,
arXiv:1707.01219, with its three kernels.

Errata: the estimate is the biased one (the diagonal is kept), as in the paper. Versions that broadcast hold
N × C_student × C_teacher × HW numbers; rows of unit length need products of N × C_student × C_teacher only. Where the
bandwidth is not given it is the batch's own mean squared distance, through which no gradient must flow.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.errors import UserError
from potstill.gaussian import gaussian_mean, mean_squared_distance
from potstill.gram import precise, selectivity_gap, unit
from potstill.maps import expect_pairs, expect_same_size, map_pairs, match_size
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

Kernel = Literal["gaussian", "polynomial", "linear"]


def mmd_loss(
    student: Float[Tensor, "n c h w"],
    teacher: Float[Tensor, "n k y x"],
    *,
    kernel: Kernel = "gaussian",
    bandwidth: float | tuple[float, ...] | None = None,
) -> Float[Tensor, ""]:
    """Mean k(s, s) + mean k(t, t) − 2 · mean k(s, t) over pairs of channels, mean over the batch.

    A channel is its map, flattened and of unit length. Kernels: exp(−‖x − y‖² / (2 · bandwidth)), (x·y)² or x·y.

    Args:
        student: A map of the student.
        teacher: A map of the teacher of equal height and width, detached here.
        kernel: "gaussian", "polynomial" or "linear".
        bandwidth: σ² of the Gaussian kernel; several are averaged over; None takes the mean ‖s − t‖² of the batch.

    Raises:
        UserError: the maps are of unlike size, the kernel is unknown, or a bandwidth is not > 0.
    """
    expect_same_size(student, teacher)
    _check(kernel, bandwidth)
    s, t = (unit(precise(x).flatten(2)) for x in (student, teacher.detach()))
    if kernel == "linear":  # Means of x·y are products of means, so no pairs are needed.
        return (s.mean(1) - t.mean(1)).square().sum(1).mean()
    if kernel == "polynomial":
        return selectivity_gap(s, t)
    variances = _variances(s, t, bandwidth)
    if s.shape[2] == 1:
        return _of_signs(s.squeeze(2), t.squeeze(2), variances)
    within, others, across = (gaussian_mean(x, y, variances) for x, y in ((s, s), (t, t), (s, t)))
    return within + others - 2 * across


def _check(kernel: str, bandwidth: float | tuple[float, ...] | None) -> None:
    if kernel not in get_args(Kernel):
        raise UserError(f"The kernel is {kernel!r}; expected one of {', '.join(get_args(Kernel))}.")
    for value in bandwidth if isinstance(bandwidth, tuple) else () if bandwidth is None else (bandwidth,):
        if not 0 < value < float("inf"):
            raise UserError(f"A bandwidth is {value:g}; expected a number > 0, the variance σ² of the kernel.")


def _of_signs(s: Tensor, t: Tensor, variances: Tensor) -> Tensor:
    """The Gaussian discrepancy of channels of one pixel, (N, C): each is −1, 0 or 1, and only their shares count."""
    more = _shares(s) - _shares(t)
    signs = torch.arange(-1, 2).to(s)
    kernel = torch.exp((signs.unsqueeze(1) - signs).square() / (-2 * variances.view(-1, 1, 1))).mean(0)
    return (more @ kernel * more).sum(1).mean()


def _shares(x: Tensor) -> Tensor:
    """The shares of −1, 0 and 1, (N, 3), as polynomials that hold on to the graph."""
    return torch.stack([x * (x - 1) / 2, 1 - x.square(), x * (x + 1) / 2], 2).mean(1)


def _variances(s: Tensor, t: Tensor, bandwidth: float | tuple[float, ...] | None) -> Tensor:
    if bandwidth:
        return s.new_tensor(bandwidth).reshape(-1)
    # Equal maps of one channel are at no distance: any bandwidth gives them 0, but 0 would give NaN.
    return mean_squared_distance(s, t).detach().clamp_min(torch.finfo(s.dtype).tiny).reshape(1)


@dataclass(frozen=True, kw_only=True)
class MMD(Term):
    """Maximum mean discrepancy: the student's channels are distributed as the teacher's.

    Attributes:
        student: Maps of the student.
        teacher: Maps of the teacher, one for each.
        kernel: "gaussian", "polynomial" or "linear".
        bandwidths: σ² of Gaussian kernels that are averaged; empty takes the mean squared distance of each batch.
        layers: A weight for each pair of maps; empty means 1 for all.
    """

    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    teacher: tuple[str, ...] = ("stage1", "stage2", "stage3")
    kernel: Kernel = "gaussian"
    bandwidths: tuple[float, ...] = ()
    layers: tuple[float, ...] = ()

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Huang, Wang 2017, arXiv:1707.01219"
    reads_logits: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        _check(self.kernel, self.bandwidths)
        if self.layers and len(self.layers) != len(self.student):
            raise UserError(
                f"The term {self.key!r} has {len(self.layers)} weights for {len(self.student)} layers; "
                "expected one each."
            )
        if not all(0 <= weight < float("inf") for weight in self.layers):
            raise UserError(f"The layers of {self.key!r} weigh {self.layers}; expected numbers ≥ 0.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; refuses vectors."""
        map_pairs(self, student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`mmd_loss` of each pair, the larger map pooled, added with the layers' weights."""
        weights = self.layers or (1.0,) * len(self.student)
        pairs = [match_size(s, t) for s, t in map_pairs(self, student, teacher)]
        losses = [
            weight * mmd_loss(s, t, kernel=self.kernel, bandwidth=self.bandwidths or None)
            for weight, (s, t) in zip(weights, pairs, strict=True)
        ]
        return torch.stack(losses).sum()
