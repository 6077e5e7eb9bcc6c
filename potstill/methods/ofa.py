"""One for all.

Zhiwei Hao, Jianyuan Guo, Kai Han, Yehui Tang, Han Hu, Yunhe Wang, Chang Xu: One-for-All: Bridge the Gap Between
Heterogeneous Architectures in Knowledge Distillation. NeurIPS 2023, arXiv:2310.19444.

For networks of unlike families: early exits turn the student's maps into logits, where architectures speak alike,
and the label's share of the teacher's answer is enhanced. The loss of the final logits and that of each exit have
weight 1 each, beside 1 for the labels; the exits are dropped after training.

Errata: the authors' code raises the other classes' probabilities to ε as well (`shipped`), which at ε = 1, the
default, is the same. The loss is a cross-entropy against a target that does not sum to 1, so not zero where student
and teacher agree. Their exits are as here, but end as wide as the wider of both networks, have a 1×1 convolution after
the last stage (which before a linear layer adds nothing), and are of another kind for transformers; here widths double
from the tap on, and tokens are read as a map.
"""

from dataclasses import dataclass
from typing import ClassVar, cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from potstill.connect import halving
from potstill.divergence import (
    SampleWeight,
    batch_mean,
    expect_factor,
    expect_temperature,
    is_label,
    log_softened,
    soft_cross_entropy,
)
from potstill.maps import student_maps
from potstill.term import Knowledge, Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def ofa_loss(
    student: Float[Tensor, "n k"],
    teacher: Float[Tensor, "n k"],
    labels: Int[Tensor, " n"],
    *,
    eps: float = 1.0,
    temperature: float = 1.0,
    shipped: bool = False,
    weight: SampleWeight | None = None,
) -> Float[Tensor, ""]:
    """−((1 + p_y)^ε − 1) · log s_y − Σ_{c≠y} p_c · log s_c, of the teacher's p and the student's s: batch mean, no T².

    Args:
        student: Logits of the student, or of one of its exits.
        teacher: Logits of the teacher, detached here.
        labels: Classes y of the images.
        eps: ε ≥ 0; above 1 the label's share grows.
        temperature: T > 0 of both.
        shipped: Whether the other classes have p_c^ε.
        weight: Factor of each image, (N,); the sum is divided by N all the same.
    """
    p = log_softened(teacher.detach(), temperature).exp()
    others = p**eps if shipped else p
    target = ((1 + p) ** eps - 1).where(is_label(labels, p.shape[1]), others)
    return batch_mean(soft_cross_entropy(log_softened(student, temperature), target), weight)


@dataclass(frozen=True, kw_only=True)
class OFA(Term):
    """Enhanced soft targets for the student's logits and for learned exits after its stages.

    Attributes:
        student: The student's activations that get an exit, from the first to the deepest; maps or tokens.
        eps: ε ≥ 0; above 1 the label's share grows.
        temperature: T > 0 of both.
        shipped: Whether the other classes' probabilities are raised to ε too, as in the authors' code.
    """

    student: tuple[str, ...] = ("stage1", "stage2", "stage3")
    eps: float = 1.0
    temperature: float = 1.0
    shipped: bool = False

    knowledge: ClassVar[Knowledge] = "response"
    citation: ClassVar[str] = "Hao et al. 2023, arXiv:2310.19444"
    learns: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "eps", self.eps)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module | None:
        """One exit for each tap; a tap has two separable convolutions for each tap that comes after it."""
        widths = [tapped.shape[1] for tapped in student_maps(self, student)]
        if not widths:
            return None
        return nn.ModuleList(_exit(w, len(widths) - place, plan.classes) for place, w in enumerate(widths, start=1))

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`ofa_loss` of the student's logits and of every exit's, summed."""
        answer = expect_teacher(self, teacher).logits
        exits = cast(nn.ModuleList, learned) if self.student else ()
        heads = [part(tapped) for part, tapped in zip(exits, student_maps(self, student), strict=True)]
        total = student.logits.new_zeros(())
        for logits in (student.logits, *heads):
            total = total + ofa_loss(
                logits,
                answer,
                batch.labels,
                eps=self.eps,
                temperature=self.temperature,
                shipped=self.shipped,
            )
        return total


def _exit(width: int, halvings: int, classes: int) -> nn.Sequential:
    """Pairs of separable convolutions, each halving the map and doubling its channels; then pooled, and linear."""
    blocks: list[nn.Module] = []
    for _ in range(halvings):
        blocks += halving(width)
        width *= 2
    linear = nn.Linear(width, classes)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear)
