"""Teachers by their confidence: of several teachers those count more that give an image's label more probability.

Hailin Zhang, Defang Chen, Can Wang: Confidence-Aware Multi-Teacher Knowledge Distillation. ICASSP 2022,
arXiv:2201.00007.

Errata: the weights here sum to 1 over the M teachers. The authors' code divides them by M once more, so the published
factors 1 and 50 of logits and features are divided by M in the term. There the features do not count in the first
epoch, the gradient flows through their weights, which are a measure and detached here, and the student's map that one
teacher has resized is what the next one sees; here each sees the map itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.connect import Pointwise
from potstill.divergence import expect_factor, expect_temperature
from potstill.errors import UserError
from potstill.gram import precise
from potstill.maps import as_vector, match_size, student_maps, teacher_maps
from potstill.places import FrozenLinear, classifier
from potstill.several import expect_several, voices, weighted_kd_loss
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def confidence_weights(teachers: Float[Tensor, "m n k"], labels: Int[Tensor, " n"]) -> Float[Tensor, "m n"]:
    """(1 − softmax_m CE(teacher_m, label)) / (M − 1): the lower its cross-entropy, the more a teacher counts.

    Raises:
        UserError: there are fewer than two teachers.
    """
    expect_several(len(teachers))
    logits = precise(teachers.detach())
    wrong = torch.stack([F.cross_entropy(each, labels, reduction="none") for each in logits])
    return (1 - wrong.softmax(0)) / (len(teachers) - 1)


def camkd_feature_loss(
    projected: Sequence[Float[Tensor, "n ..."]],
    teacher: Sequence[Float[Tensor, "n ..."]],
    projected_logits: Float[Tensor, "m n k"],
    labels: Int[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Σ_m v_m · mean((projected_m − teacher_m)²) per image, mean over the batch.

    Args:
        projected: The student's map for each teacher, behind that teacher's own connector, in the teacher's shape.
        teacher: Each teacher's map, detached here; their shapes may differ from teacher to teacher.
        projected_logits: What each teacher's classifier says of `projected`; v are their `confidence_weights`.
        labels: Class indices.

    Raises:
        UserError: the numbers of maps or their shapes do not agree, or there are fewer than two teachers.
    """
    ours, theirs = [tuple(x.shape) for x in projected], [tuple(x.shape) for x in teacher]
    if ours != theirs or len(ours) != len(projected_logits):
        raise UserError(
            f"The projected maps have shapes {ours}, the teachers' {theirs}, and there are {len(projected_logits)} "
            "sets of logits; expected one of each per teacher, in equal shapes."
        )
    v = confidence_weights(projected_logits, labels)
    pairs = zip(projected, teacher, strict=True)
    apart = [(precise(s) - precise(t.detach())).square().flatten(1).mean(1) for s, t in pairs]
    return (v * torch.stack(apart)).sum(0).mean()


class _Read(nn.Module):
    """The student's map as one teacher's classifier reads it."""

    def __init__(self, connector: nn.Module, classifier: FrozenLinear):
        super().__init__()
        self.connector = connector
        self.classifier = classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C, H, W) to the teacher's channels, (N, D, H, W), and logits (N, K)."""
        projected = self.connector(x)
        return projected, self.classifier(as_vector(projected))


@dataclass(frozen=True, kw_only=True)
class CAMKD(Term):
    """Confidence-aware soft targets and last maps of several teachers: the righter one is, the more it counts.

    Attributes:
        student: The student's last map, alone.
        teacher: Each teacher's last map, what its classifier reads once pooled, in the order of the ensemble.
        temperature: T > 0 of the soft targets; the weights are of temperature 1.
        alpha: Factor of the soft targets, divided by the number of teachers, ≥ 0.
        beta: Factor of the maps, divided by the number of teachers, ≥ 0.
        features_from: Epoch of the stage, from 0, in which the maps begin to count.
    """

    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("0/stage3", "1/stage3", "2/stage3")
    temperature: float = 4.0
    alpha: float = 1.0
    beta: float = 50.0
    features_from: int = 1

    knowledge: ClassVar[Knowledge] = "feature"
    citation: ClassVar[str] = "Zhang et al. 2022, arXiv:2201.00007"
    learns: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True
    several: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_temperature(self.temperature)
        expect_factor(self.key, "alpha", self.alpha)
        expect_factor(self.key, "beta", self.beta)
        if self.features_from < 0:
            raise UserError(f"The features_from of {self.key!r} is {self.features_from}; expected an epoch ≥ 0.")
        if len(self.student) != 1:
            raise UserError(f"The term {self.key!r} was given {len(self.student)} taps of the student; expected one.")
        if [tap.partition("/")[0] for tap in self.teacher] != [str(place) for place in range(len(self.teacher))]:
            raise UserError(
                f"The term {self.key!r} was given the teachers' taps {self.teacher}; expected one for each in their "
                "order, as in ('0/stage3', '1/stage3')."
            )

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each teacher a 1×1 convolution with batch norm and ReLU; its classifier is copied, not learned."""
        networks = self._networks(len(voices(self, teacher)), plan)
        (ours,) = student_maps(self, student)
        theirs = teacher_maps(self, teacher)
        pairs = zip(self.teacher, theirs, networks, strict=True)
        heads = [self._head(tap, x, network, plan.classes) for tap, x, network in pairs]
        connector = Pointwise(norm=True, relu=True)
        return nn.ModuleList(_Read(connector.build(ours, x), head) for x, head in zip(theirs, heads, strict=True))

    def suits_classes(self, *, missing: bool) -> bool:
        """Never: the student's maps go through the teachers' own classifiers."""
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """(α · `weighted_kd_loss` under `confidence_weights` + β · `camkd_feature_loss`) / M."""
        said = voices(self, teacher)
        weights = confidence_weights(said, batch.labels)
        soft = weighted_kd_loss(student.logits, said, weights, temperature=self.temperature)
        # Times 0, rather than left out, so that what is learned has gradients from the first step on: an optimizer may
        # fail where a parameter's first one comes late.
        beta = self.beta if progress.epoch >= self.features_from else 0.0
        features = self._features(batch, student, teacher, learned)
        return (self.alpha * soft + beta * features) / len(said)

    def _features(self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None) -> Tensor:
        """`camkd_feature_loss` of the student's map, connected to each teacher's, the larger of the two pooled."""
        assert isinstance(learned, nn.ModuleList)
        (ours,) = student_maps(self, student)
        read = [part(ours) for part in learned]
        maps = teacher_maps(self, teacher)
        pairs = [match_size(projected, x) for (projected, _), x in zip(read, maps, strict=True)]
        logits = torch.stack([logits for _, logits in read])
        return camkd_feature_loss([s for s, _ in pairs], [t for _, t in pairs], logits, batch.labels)

    def _networks(self, count: int, plan: Plan) -> list[nn.Module]:
        """The teachers' networks."""
        if len(self.teacher) != count:
            raise UserError(
                f"The term {self.key!r} was given {len(self.teacher)} taps of teachers but there are {count} teachers; "
                "name one tap for each."
            )
        networks = list(plan.teacher) if isinstance(plan.teacher, nn.ModuleList) else []
        if len(networks) != count or any(isinstance(network, nn.ModuleList) for network in networks):
            raise UserError(
                f"The term {self.key!r} reads the classifiers of all teachers; give it an Ensemble of single networks."
            )
        return networks

    def _head(self, tap: str, last_map: Tensor, network: nn.Module, classes: int) -> FrozenLinear:
        """A teacher's classifier, which reads its tap."""
        last = classifier(network, f"teacher {tap.partition('/')[0]}")
        if (last_map.shape[1], classes) != (last.in_features, last.out_features):
            raise UserError(
                f"The teacher's {tap!r} has {last_map.shape[1]} channels and the data {classes} classes, but its "
                f"classifier reads {last.in_features} features and answers {last.out_features} classes; tap its last "
                "map, and take a teacher of the data's classes."
            )
        return FrozenLinear(last)
