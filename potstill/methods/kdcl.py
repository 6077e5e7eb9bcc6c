"""Collaborative learning.

Qiushan Guo, Xinjiang Wang, Yichao Wu, Zhipeng Yu, Ding Liang, Xiaolin Hu, Ping Luo: Online Knowledge Distillation
via Collaborative Learning. CVPR 2020.

Networks that learn together share one target, made of all their logits; each then has soft targets against it.

Errata: the authors gave out no code, so no temperature and no weight of theirs stands here; many implementations
average the logits instead, which is none of the paper's rules.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.divergence import at_label, expect_temperature, softened_kl
from potstill.errors import UserError
from potstill.gram import precise
from potstill.several import expect_members
from potstill.term import Knowledge, Mode, Plan, Progress, Term
from potstill.types import Batch, Trace

Rule = Literal["naive", "minlogit", "linear"]


@torch.no_grad()
def kdcl_target(
    logits: Float[Tensor, "m n k"], labels: Int[Tensor, " n"], *, rule: Rule = "naive"
) -> Float[Tensor, "n k"]:
    """The shared target: logits, without a gradient.

    Args:
        logits: Of each of the M networks.
        labels: Classes of the images.
        rule: "naive": the logits of the network with the least cross-entropy on the batch; "minlogit": the least
            z − z(label) of all networks, class by class; "linear": the convex combination of the networks' logits
            with the least cross-entropy on the batch.

    Raises:
        UserError: there is no such rule.
    """
    logits = precise(logits)
    margins = torch.stack([z - at_label(z, labels)[:, None] for z in logits])
    if rule == "naive":
        return logits.index_select(0, margins.logsumexp(2).mean(1).argmin()[None])[0]
    if rule == "minlogit":
        return margins.amin(0)
    if rule == "linear":
        with torch.autocast(logits.device.type, enabled=False):
            return torch.einsum("m,mnk->nk", _convex(margins).to(logits.dtype), logits)
    raise UserError(f"The rule is {rule!r}; expected {', '.join(get_args(Rule))}.")


@dataclass(frozen=True, kw_only=True)
class KDCL(Term):
    """Collaborative learning: each network matches one target, made of what all of them say, itself included.

    For runs whose teacher is `Peers`. Beside it belong the labels: `Labels()`.

    Attributes:
        temperature: T > 0 of the soft targets; the default is ours, for the authors' is not known to us.
        rule: How the target is made (see `kdcl_target`).
    """

    temperature: float = 2.0
    rule: Rule = "naive"

    knowledge: ClassVar[Knowledge] = "response"
    modes: ClassVar[tuple[Mode, ...]] = ("online",)
    citation: ClassVar[str] = "Guo et al. 2020, Online Knowledge Distillation via Collaborative Learning, CVPR"
    reads_labels: ClassVar[bool] = True
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        if self.rule not in get_args(Rule):
            raise UserError(f"The rule of {self.key!r} is {self.rule!r}; expected {', '.join(get_args(Rule))}.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> None:
        """Nothing is learned; a teacher that is not several is refused."""
        expect_members(self, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """T² · KL(softmax(target/T) ‖ softmax(student/T)): summed over classes, mean over the batch."""
        everybody = torch.stack([student.logits, *(member.logits for member in expect_members(self, teacher))])
        target = kdcl_target(everybody, batch.labels, rule=self.rule)
        return softened_kl(student.logits, target, temperature=self.temperature)


def _convex(margins: Float[Tensor, "m n k"]) -> Float[Tensor, " m"]:
    """The weights w ≥ 0, Σw = 1, with the least mean of logsumexp_k Σ_m w_m · margins: Newton's steps, damped.

    A barrier −μ Σ log w keeps them positive and fades; the number of steps is fixed, so the device is never waited for.
    """
    u = margins if margins.device.type == "mps" else margins.double()
    w = u.new_full((len(u),), 1 / len(u))
    shares = 0.5 ** torch.arange(12, dtype=u.dtype, device=u.device)
    for step in range(60):
        barrier = 0.5**step
        delta = _newton(u, w, barrier)
        delta = torch.where(delta.isfinite().all(), delta, 0.0)  # Where all say the same, any weights are the best.
        room = torch.where(delta < 0, -0.9 * w / delta, 1.0).amin().clamp(max=1)
        tried = w + (room * shares)[:, None] * delta
        value = torch.einsum("tm,mnk->tnk", tried, u).logsumexp(2).mean(1) - barrier * tried.log().sum(1)
        w = tried.index_select(0, value.argmin()[None])[0]
    return w


def _newton(u: Float[Tensor, "m n k"], w: Float[Tensor, " m"], barrier: float) -> Float[Tensor, " m"]:
    """The step to the minimum of the parabola at `w`, among those that keep the sum of the weights."""
    p = torch.einsum("m,mnk->nk", w, u).softmax(1)
    mean = torch.einsum("nk,mnk->mn", p, u)
    spread = u - mean[:, :, None]
    hessian = torch.einsum("nk,ank,bnk->ab", p, spread, spread) / len(p) + (barrier / w.square()).diag()
    uphill = mean.mean(1) - barrier / w
    solved = cast(Tensor, torch.linalg.solve_ex(hessian, torch.stack([-uphill, torch.ones_like(w)], 1))[0])
    down, even = solved.unbind(1)
    return down - even * (down.sum() / even.sum())
