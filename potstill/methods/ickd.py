"""Inter-channel correlation: which channels light up together, image by image, whatever the size of the maps.

Li Liu, Qingle Huang, Sihao Lin, Hongwei Xie, Bing Wang, Xiaojun Chang, Xiaodan Liang: Exploring Inter-Channel
Correlation for Diversity-Preserved Knowledge Distillation. ICCV 2021, arXiv:2202.03680, equations 3 and 4. It learns a
1×1 convolution with batch norm on the student's side, and costs one C_t × C_t product of maps on each side.

Errata: the paper divides the squares by C² and scales nothing else; the authors' code, whose weight 2.5 this is, gives
each row of G unit norm and divides by C.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from potstill.connect import Pointwise, connectors
from potstill.errors import UserError
from potstill.gram import products, unit
from potstill.maps import expect_pairs, map_pairs
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace


def ickd_loss(student: Float[Tensor, "n c *p"], teacher: Float[Tensor, "n d *q"]) -> Float[Tensor, ""]:
    """‖G_s − G_t‖²_F / C, mean over the batch; G = F·Fᵀ over positions, (C, C), its rows of unit norm.

    Args:
        student: Maps with the teacher's channels.
        teacher: Maps, their height and width whatever they are; detached here.

    Raises:
        UserError: the channels differ.
    """
    if student.shape[1] != teacher.shape[1]:
        raise UserError(
            f"The student's maps have {student.shape[1]} channels and the teacher's {teacher.shape[1]}; expected equal "
            "ones: put a 1×1 convolution in between."
        )
    apart = _correlations(student) - _correlations(teacher.detach())
    return apart.square().sum(2).mean()


def _correlations(x: Float[Tensor, "n c *p"]) -> Float[Tensor, "n c c"]:
    channels = x.flatten(2)
    return unit(products(channels, channels))


@dataclass(frozen=True, kw_only=True)
class ICKD(Term):
    """The correlations between the channels of the student's map, behind a learned 1×1, become the teacher's.

    Attributes:
        student: The student's maps; the authors compare the last.
        teacher: The teacher's, one for each of the student's; channels and sizes may differ.
    """

    weight: float = 2.5
    student: tuple[str, ...] = ("stage3",)
    teacher: tuple[str, ...] = ("stage3",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Liu et al. 2021, arXiv:2202.03680"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair a 1×1 convolution to the teacher's channels, with batch norm."""
        return connectors(self, Pointwise(norm=True), student, teacher)

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`ickd_loss`, summed over the pairs."""
        assert isinstance(learned, nn.ModuleList)
        pairs = zip(learned, map_pairs(self, student, teacher), strict=True)
        return torch.stack([ickd_loss(connect(s), t) for connect, (s, t) in pairs]).sum()
