"""Softmax regression representation learning.

Jing Yang, Brais Martinez, Adrian Bulat, Georgios Tzimiropoulos: Knowledge distillation via softmax regression
representation learning. ICLR 2021, OpenReview ZzwDy_wiWv.

Errata: the softmax regression loss is a squared difference of logits, and both parts are means over all elements, as in
the authors' code. The authors connect the map and pool afterwards, without soft targets;
other tables connect the pooled vector and add soft targets with weight 1.
"""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Pointwise, normal_start
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import as_vector, expect_pairs, expect_same_shape, student_maps
from potstill.places import FrozenLinear, classifier
from potstill.term import Knowledge, Plan, Progress, Term, expect_teacher
from potstill.types import Batch, Trace


def srrl_loss(
    regressed: Float[Tensor, "n c"],
    teacher: Float[Tensor, "n d"],
    regressed_logits: Float[Tensor, "n k"],
    teacher_logits: Float[Tensor, "n k"],
    *,
    beta: float = 1.0,
) -> Float[Tensor, ""]:
    """Mean over all of (regressed − teacher)² + β · mean over all of (regressed_logits − teacher_logits)².

    Args:
        regressed: The student's pooled features behind the connector.
        teacher: The teacher's pooled features, detached here.
        regressed_logits: What the teacher's classifier makes of `regressed`.
        teacher_logits: Logits of the teacher, detached here.
        beta: Weight of the second part.

    Raises:
        UserError: the features are of unlike width.
    """
    expect_same_shape(regressed, teacher)
    features = (precise(regressed) - precise(teacher.detach())).square().mean()
    return features + beta * (precise(regressed_logits) - precise(teacher_logits.detach())).square().mean()


class _Read(nn.Module):
    """The student's map as the teacher's classifier reads it."""

    def __init__(self, connector: nn.Module, classifier: FrozenLinear):
        super().__init__()
        self.connector = connector
        self.classifier = classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the teacher's features (N, D) and logits (N, K)."""
        features = as_vector(self.connector(x))
        return features, self.classifier(features)


@dataclass(frozen=True, kw_only=True)
class SRRL(Term):
    """Softmax regression: the teacher's classifier reads the student's features as it reads the teacher's own.

    Attributes:
        student: The student's last map.
        teacher: The vector that the teacher's classifier reads.
        beta: Weight of the difference of logits beside that of features, ≥ 0.
    """

    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("pooled",)
    beta: float = 1.0

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Yang et al. 2021, OpenReview ZzwDy_wiWv"
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if len(self.student) != 1:
            raise UserError(f"The term {self.key!r} was given {len(self.student)} pairs of taps; expected one.")
        if not 0 <= self.beta < float("inf"):
            raise UserError(f"The beta of {self.key!r} is {self.beta:g}; expected a number ≥ 0.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """A 1×1 convolution with batch norm and ReLU; the teacher's classifier is copied, not learned."""
        if plan.teacher is None:
            raise UserError(f"The term {self.key!r} reads the classifier of a teacher network; give it a network.")
        last = classifier(plan.teacher, "teacher")
        (features,) = (as_vector(expect_teacher(self, teacher).taps[tap]) for tap in self.teacher)
        if features.shape[1] != last.in_features:
            raise UserError(
                f"The teacher's {self.teacher[0]!r} has {features.shape[1]} features but its classifier reads "
                f"{last.in_features}; tap what the classifier reads, 'pooled' in most networks."
            )
        connector = Pointwise(norm=True, relu=True).build(student_maps(self, student)[0], features)
        return _Read(normal_start(connector), FrozenLinear(last))

    def suits_classes(self, *, missing: bool) -> bool:
        """Never: the student's features go through the teacher's own classifier."""
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`srrl_loss` of the student's map, connected and pooled."""
        assert learned is not None
        answer = expect_teacher(self, teacher)
        regressed, logits = learned(student_maps(self, student)[0])
        return srrl_loss(regressed, as_vector(answer.taps[self.teacher[0]]), logits, answer.logits, beta=self.beta)
