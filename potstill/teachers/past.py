"""The student's own past as its teacher."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from potstill.codec import digest
from potstill.data import Resident
from potstill.errors import UserError
from potstill.teachers.inside import Inside
from potstill.teachers.teacher import Teacher
from potstill.types import Batch, Trace

CERTAIN = 1e4
"""The logit of a label that stands for itself: probability 1 in float32, whatever the number of classes."""


@dataclass(frozen=True)
class OwnPast(Teacher):
    """What the student said of each image when it was last drawn, an epoch ago; the labels before that.

    Kyungyul Kim, ByeongMoon Ji, Doyoung Yoon, Sangheum Hwang: Self-Knowledge Distillation with Progressive Refinement
    of Targets. ICCV 2021, arXiv:2006.12000.
    """

    @property
    def outside(self) -> bool:
        """It is part of the training."""
        return False

    @property
    def certain(self) -> bool:
        """Until an image was seen, it gives the label."""
        return True

    def identity(self) -> str:
        """There is but one."""
        return digest({"past": True})

    def accompany(self, student: nn.Module, resident: Resident, *, companions: bool) -> Inside:
        """An empty table."""
        images = len(resident.train) + (0 if resident.validation is None else len(resident.validation))
        return Past(images, resident.classes, accompanied=companions)


class Past(Inside):
    """What the student said of each image when it was last drawn; before that, the label.

    Args:
        images: How many there are.
        classes: K.
        accompanied: Whether the second half of each batch came along with the drawn ones; it is not remembered.
    """

    table: Tensor
    seen: Tensor

    def __init__(self, images: int, classes: int, *, accompanied: bool = False):
        super().__init__()
        self._halves = 2 if accompanied else 1
        self.register_buffer("table", torch.zeros(images, classes, dtype=torch.float16))
        self.register_buffer("seen", torch.zeros(images, dtype=torch.bool))

    def look(self, taps: Sequence[str], shape: tuple[int, int, int]) -> Trace:
        """Logits alone."""
        if taps:
            raise UserError(
                f"The student's own past has no tap {taps[0]!r}, only logits; leave the terms out that need it."
            )
        return Trace(self.table.new_zeros(2, self.table.shape[1], dtype=torch.float32), {})

    @torch.no_grad()
    def answer(self, batch: Batch, taps: Sequence[str]) -> Trace:
        """The logits of then; those that give the label all probability where there are none."""
        said = self.table[batch.index].float()
        certain = CERTAIN * nn.functional.one_hot(batch.labels, said.shape[1]).float()
        return Trace(torch.where(self.seen[batch.index].unsqueeze(1), said, certain), {})

    @torch.no_grad()
    def advance(self, student: nn.Module, batch: Batch, logits: Tensor, step: int) -> None:
        """Remember what was said of these images."""
        limit = torch.finfo(self.table.dtype).max
        drawn, said = batch.index.chunk(self._halves)[0], logits.chunk(self._halves)[0]
        self.table[drawn] = said.clamp(-limit, limit).to(self.table.dtype)
        self.seen[drawn] = True
