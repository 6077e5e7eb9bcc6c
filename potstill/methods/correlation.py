"""Correlation congruence: where student and teacher differ about one image, they shall not also about the next.

Baoyun Peng, Xiao Jin, Jiaheng Liu, Dongsheng Li, Yichao Wu, Yu Liu, Shunfeng Zhou, Zhaoning Zhang: Correlation
Congruence for Knowledge Distillation. ICCV 2019, arXiv:1904.01802. It learns one linear embedding on each side,
and costs next to nothing.

Errata: this is the short form that an author gave out and that published tables stand on, not the kernel of the paper
(see `cckernel`): it looks at neighbours in the batch only, so it depends on their order. The embedding of the teacher's
features is learned; a detached `teacher` would freeze it at its random start.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import embedding
from potstill.errors import UserError
from potstill.gram import precise, row_pairs
from potstill.maps import expect_pairs
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def correlation_loss(student: Float[Tensor, "n d"], teacher: Float[Tensor, "n e"]) -> Float[Tensor, ""]:
    """The mean over the N − 1 neighbouring pairs of Σ_c |d_i|·|d_{i+1}|, d = student − teacher.

    Args:
        student: The embedded features of the student.
        teacher: Those of the teacher, as wide; **not** detached, because their embedding is learned.

    Raises:
        UserError: the widths differ.
    """
    if student.shape != teacher.shape:
        raise UserError(
            f"The embeddings have shapes {tuple(student.shape)} and {tuple(teacher.shape)}; expected equal ones: embed "
            "both to one width."
        )
    apart = (precise(student) - precise(teacher)).abs()
    # A single image, as validation may end with, has no neighbour: 0.
    return (apart[:-1] * apart[1:]).sum() / max(len(apart) - 1, 1)


@dataclass(frozen=True, kw_only=True)
class Correlation(Term):
    """Embeddings of both networks' features, learned with the student, agree on neighbouring images.

    Attributes:
        width: D of the embeddings, ≥ 1.
        student: The student's activations; the authors' are the pooled features.
        teacher: The teacher's, one for each of the student's; widths may differ.
    """

    weight: float = 0.02
    width: int = 128
    student: tuple[str, ...] = ("pooled",)
    teacher: tuple[str, ...] = ("pooled",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Peng et al. 2019, arXiv:1904.01802"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        if self.width < 1:
            raise UserError(f"The width of {self.key!r} is {self.width}; expected a whole number ≥ 1, such as 128.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair the embedding of the student's features, then that of the teacher's."""
        widths = [x.shape[1] for pair in row_pairs(self, student, teacher) for x in pair]
        return nn.ModuleList(embedding(width, self.width) for width in widths)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`correlation_loss` of the embeddings, summed over the pairs."""
        assert isinstance(learned, nn.ModuleList)
        pairs = row_pairs(self, student, teacher)
        sides = zip(learned[::2], learned[1::2], pairs, strict=True)
        return torch.stack([correlation_loss(ours(s), theirs(t)) for ours, theirs, (s, t) in sides]).sum()
