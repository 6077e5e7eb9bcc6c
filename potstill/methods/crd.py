"""Contrastive distillation: student and teacher agree about an image, and not about those of other classes.

Yonglong Tian, Dilip Krishnan, Phillip Isola: Contrastive Representation Distillation. ICLR 2020, arXiv:1910.10699,
equation 18. It learns one linear embedding on each side, and keeps two banks of n × D embeddings and two
constants Z; a step costs two N × n products.

Errata: Z is set in the first batch and kept. The loss is a sum over negatives, so another number of them is another
scale: the weight .8 belongs to 16384. The authors draw them on the CPU without replacement; here each image gets one
from every of m equal parts, turned by a random amount, of the list of images of other classes: every one is as likely
as any other, and none comes twice as long as there are m. The embedding of the teacher's features is learned; a
detached `teacher` would freeze it at its random start. In validation, where an image is in no bank, the other network's
embedding of it stands in, and nothing is remembered.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from potstill.connect import embedding
from potstill.errors import UserError
from potstill.gram import precise, products, recomputed, row_pairs, unit
from potstill.maps import expect_pairs
from potstill.seeds import fold
from potstill.term import Knowledge, Plan, Progress, Term
from potstill.types import Batch, Trace

AT_ONCE = 2**24
"""Similarities to a bank that are held at once: 64 MB in float32."""

_EPS = 1e-7


def crd_loss(
    student: Float[Tensor, "n d"],
    teacher: Float[Tensor, "n d"],
    student_memory: Float[Tensor, "n m1 d"],
    teacher_memory: Float[Tensor, "n m1 d"],
    *,
    z_student: float | Float[Tensor, ""],
    z_teacher: float | Float[Tensor, ""],
    population: int,
    temperature: float = 0.07,
) -> Float[Tensor, ""]:
    """`contrast_loss` of student · teacher_memory plus that of teacher · student_memory.

    Args:
        student: Embeddings of the student, of unit norm.
        teacher: Embeddings of the teacher; **not** detached, because their embedding is learned.
        student_memory: The student's remembered embeddings: column 0 of the same image, then the m negatives; detached.
        teacher_memory: The teacher's; detached.
        z_student: Z > 0 of the student's similarities to the teacher's memory.
        z_teacher: Z > 0 of the teacher's similarities to the student's memory.
        population: n, the number of training images.
        temperature: τ > 0.
    """
    s, t = precise(student), precise(teacher)
    ours = products(s.unsqueeze(1), teacher_memory.detach()).squeeze(1)
    theirs = products(t.unsqueeze(1), student_memory.detach()).squeeze(1)
    first = contrast_loss(ours, z=z_student, population=population, temperature=temperature)
    return first + contrast_loss(theirs, z=z_teacher, population=population, temperature=temperature)


def contrast_loss(
    similarity: Float[Tensor, "n m1"], *, z: float | Float[Tensor, ""], population: int, temperature: float = 0.07
) -> Float[Tensor, ""]:
    """−[log P₀/(P₀ + m/n + 1e-7) + Σ_m log (m/n)/(P_m + m/n + 1e-7)], P = exp(similarity/τ)/Z; mean over the batch.

    Args:
        similarity: Inner products: column 0 with the same image, then with the m negatives.
        z: Z > 0.
        population: n, the number of training images.
        temperature: τ > 0.
    """
    noise = (similarity.shape[1] - 1) / population
    # In logarithms nothing overflows: P/(P + c) is the logistic function of log P − log c.
    log_z = z.log() if isinstance(z, Tensor) else math.log(z)
    over_noise = precise(similarity) / temperature - log_z - math.log(noise + _EPS)
    right = F.logsigmoid(over_noise[:, 0])
    wrong = F.logsigmoid(-over_noise[:, 1:]) + math.log(noise / (noise + _EPS))
    return -(right + wrong.sum(1)).mean()


class Memory(nn.Module):
    """The embeddings of both sides, and what they were of every training image.

    Attributes:
        student: The student's embedding.
        teacher: The teacher's.
        student_bank: Unit-norm embeddings of the student, (n, D).
        teacher_bank: Those of the teacher.
        z: Z of the student's and of the teacher's similarities, (2,); 0 until the first batch.
    """

    student_bank: Tensor
    teacher_bank: Tensor
    z: Tensor
    _by_class: Tensor
    _first: Tensor
    _count: Tensor
    _row: Tensor

    def __init__(self, widths: tuple[int, int], options: "CRD", labels: Tensor, index: Tensor, classes: int):
        super().__init__()
        self._options = options
        self._settled = False
        self._seed = int(torch.randint(2**62, ()))
        self.student = embedding(widths[0], options.width, unit=True)
        self.teacher = embedding(widths[1], options.width, unit=True)
        bound = math.sqrt(3 / options.width)
        for side in ("student", "teacher"):
            self.register_buffer(f"{side}_bank", torch.empty(len(labels), options.width).uniform_(-bound, bound))
        self.register_buffer("z", torch.zeros(2))
        count = labels.bincount(minlength=classes)
        row = labels.new_full((int(index.max()) + 1,), -1)
        row[index] = torch.arange(len(index), device=index.device)
        tables = {"by_class": labels.argsort(stable=True), "first": count.cumsum(0) - count, "count": count, "row": row}
        for name, table in tables.items():  # They follow from the data, so no checkpoint needs them.
            self.register_buffer(f"_{name}", table, persistent=False)

    def forward(self, student: Tensor, teacher: Tensor, batch: Batch, step: int) -> Tensor:
        """The loss of both sides' activations; in training the banks then remember their embeddings."""
        ours, theirs = self.student(student), self.teacher(teacher)
        banks = self.student_bank, self.teacher_bank
        rows = self._row[batch.index] if self.training else None
        same = (ours.detach(), theirs.detach()) if rows is None else (banks[0][rows], banks[1][rows])
        drawn = self._draw(len(batch.labels), batch.labels.device, step)
        each = [ours, theirs, *same, batch.labels, *drawn]
        chunk = max(1, AT_ONCE // len(self.student_bank))
        split = [cast("tuple[Tensor, ...]", x.split(chunk)) for x in each]
        parts = list(zip(*split, strict=True))
        z = self._constants(parts)
        losses = [recomputed(self._part, *part, *banks, z) for part in parts]
        if rows is not None:
            self._remember(rows, ours.detach(), theirs.detach())
        return torch.stack(losses).sum() / len(ours)

    def negatives(self, labels: Int[Tensor, " n"], uniform: Tensor, turn: Tensor) -> Int[Tensor, "n m"]:
        """Rows of images of other classes: one from each of m equal parts of their list, turned.

        Args:
            labels: The classes whose images are left out.
            uniform: Where in each part, in [0, 1), (n, m).
            turn: By which share of the list the parts are turned, in [0, 1), (n, 1).
        """
        own, m = self._count[labels].unsqueeze(1), uniform.shape[1]
        others = len(self.student_bank) - own
        part = torch.arange(m, device=labels.device)
        low = part * others // m
        size = (part + 1) * others // m - low
        # Rounding may take the product up to the size itself.
        place = low + torch.minimum((uniform * size).long(), (size - 1).clamp_min(0))
        place = (place + (turn * others).long()) % others
        # The list is that of all images in order of class, without those of the own class.
        return self._by_class[place + (place >= self._first[labels].unsqueeze(1)) * own]

    def _draw(self, images: int, device: torch.device, step: int) -> tuple[Tensor, Tensor]:
        """Uniform numbers for `negatives`: a function of the seed and the step, drawn on the device."""
        generator = torch.Generator(device).manual_seed(fold(self._seed, "negatives", step))
        uniform = torch.rand(images, self._options.negatives, generator=generator, device=device)
        return uniform, torch.rand(images, 1, generator=generator, device=device)

    def _similarities(self, *part: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1 + m) of the student's embeddings to the teacher's bank, and the other way round."""
        ours, theirs, same_ours, same_theirs, labels, uniform, turn, our_bank, their_bank = part
        index = self.negatives(labels, uniform, turn)

        def compare(x: Tensor, same: Tensor, bank: Tensor) -> Tensor:
            # All similarities to a bank are one product, many times faster than gathering m of its rows per image.
            return torch.cat([(x * same).sum(1, keepdim=True), products(x, bank).gather(1, index)], 1)

        return compare(ours, same_theirs, their_bank), compare(theirs, same_ours, our_bank)

    def _part(self, *part: Tensor) -> Tensor:
        """The loss of some images, summed over them."""
        *sides, z = part
        n, temperature = len(self.student_bank), self._options.temperature
        ours, theirs = self._similarities(*sides)
        first = contrast_loss(ours, z=z[0], population=n, temperature=temperature)
        second = contrast_loss(theirs, z=z[1], population=n, temperature=temperature)
        return len(ours) * (first + second)

    @torch.no_grad()
    def _constants(self, parts: list[tuple[Tensor, ...]]) -> Tensor:
        """Z: as it was set, or else the mean of exp(similarity/τ) over this batch, times n."""
        if self._settled:
            return self.z
        banks = self.student_bank, self.teacher_bank
        sums, entries = torch.zeros_like(self.z), 0
        for part in parts:
            sides = self._similarities(*part, *banks)
            sums += torch.stack([(side / self._options.temperature).exp().sum() for side in sides])
            entries += sides[0].numel()
        # Nobody looks whether it was set (that would wait for the device), only once per process it is computed.
        z = torch.where(self.z > 0, self.z, sums / entries * len(self.student_bank))
        if self.training:
            self.z, self._settled = z, True
        return z

    @torch.no_grad()
    def _remember(self, rows: Tensor, ours: Tensor, theirs: Tensor) -> None:
        """Move the rows of both banks towards these embeddings."""
        keep = self._options.momentum

        def moved(bank: Tensor, new: Tensor) -> Tensor:
            # A new bank: the old one is needed on the way back.
            return bank.index_copy(0, rows, unit(keep * bank[rows] + (1 - keep) * new))

        self.student_bank = moved(self.student_bank, ours)
        self.teacher_bank = moved(self.teacher_bank, theirs)


@dataclass(frozen=True, kw_only=True)
class CRD(Term):
    """Embeddings of both networks' features tell an image from those of other classes, across the networks.

    Attributes:
        width: D of the embeddings, ≥ 1.
        negatives: m per image, ≥ 1.
        temperature: τ > 0.
        momentum: Share of what a bank held that it keeps, in [0, 1).
        student: The student's activations; the authors' are the pooled features.
        teacher: The teacher's, one for each of the student's; widths may differ.
    """

    weight: float = 0.8
    width: int = 128
    negatives: int = 16384
    temperature: float = 0.07
    momentum: float = 0.5
    student: tuple[str, ...] = ("pooled",)
    teacher: tuple[str, ...] = ("pooled",)

    knowledge: ClassVar[Knowledge] = "relation"
    citation: ClassVar[str] = "Tian, Krishnan, Isola 2020, arXiv:1910.10699"
    reads_logits: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    reads_labels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        expect_pairs(self)
        for name, value in (("width", self.width), ("number of negatives", self.negatives)):
            if value < 1:
                raise UserError(f"The {name} of {self.key!r} is {value}; expected a whole number ≥ 1.")
        if not 0 < self.temperature < float("inf"):
            raise UserError(f"The temperature of {self.key!r} is {self.temperature:g}; expected a number > 0, as 0.07.")
        if not 0 <= self.momentum < 1:
            raise UserError(f"The momentum of {self.key!r} is {self.momentum:g}; expected a number from 0 to below 1.")

    def build(self, student: Trace, teacher: Trace | None, plan: Plan) -> nn.Module:
        """For each pair both embeddings and both banks."""
        if int(plan.labels.min()) == int(plan.labels.max()):
            raise UserError(
                f"The term {self.key!r} contrasts images of unlike classes, but all training images are of class "
                f"{int(plan.labels[0])}; give it data with several."
            )
        return nn.ModuleList(
            Memory((s.shape[1], t.shape[1]), self, plan.labels, plan.index, plan.classes)
            for s, t in row_pairs(self, student, teacher)
        )

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        """`crd_loss` against the banks, summed over the pairs."""
        assert isinstance(learned, nn.ModuleList)
        pairs = zip(learned, row_pairs(self, student, teacher), strict=True)
        return torch.stack([memory(s, t, batch, progress.step) for memory, (s, t) in pairs]).sum()
