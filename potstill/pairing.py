"""What each published method minimises for a teacher and a student of the own zoo: its terms, taps and weights.

A method beside labels and soft targets has the weights of `potstill.published` for the pair, or its usual ones. Layers
are those of the tables: stage with stage, the last maps, or the pooled features.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import torch

from potstill import published
from potstill.connect import Identity
from potstill.methods import (
    AB,
    AFD,
    CATKD,
    CRD,
    CTKD,
    DIST,
    DKD,
    FSP,
    ICKD,
    KD,
    MGD,
    MLKD,
    NKD,
    NST,
    OFA,
    OFD,
    PKT,
    RKD,
    RLD,
    SRRL,
    TTM,
    VID,
    WSLD,
    WTTM,
    Attention,
    CCKernel,
    Correlation,
    Factor,
    Hint,
    Labels,
    Review,
    SemCKD,
    Similarity,
    SimKD,
)
from potstill.models import Network, ReusedHead, aliases, build
from potstill.term import Term

Terms = dict[str, tuple[Term, ...]]


class Taps(NamedTuple):
    """Where methods look at a network.

    Attributes:
        stages: Behind each stage, after its last ReLU where one ends it.
        maps: Behind the stem and each stage as published tables have it: the bare sum on wide residual networks.
        before: What the last ReLU of each stage reads; the stage itself where it ends in none, or in a shuffle.
        cut: The part that ends the last stage.
    """

    stages: tuple[str, ...]
    maps: tuple[str, ...]
    before: tuple[str, ...]
    cut: str

    @classmethod
    def of(cls, network: Network) -> Self:
        """Those of a network of the own zoo."""
        with torch.device("meta"):  # Without weights: only its parts are looked at.
            known = aliases(build(network))
        stages = tuple(f"stage{place}" for place in range(1, 5) if f"stage{place}" in known)
        maps = tuple(f"{tap}.sum" if f"{tap}.sum" in known else tap for tap in ("stem", *stages))
        before = tuple(f"{tap}.pre" if f"{tap}.pre" in known else tap for tap in stages)
        return cls(stages, maps, before, cut=known[stages[-1]].partition(".")[0])


class First(NamedTuple):
    """A stage of initialisation, before a method's own.

    Attributes:
        term: What it minimises.
        train: Globs over the parameters that move.
        learning_rate: None for that of the stage that follows.
    """

    term: Term
    train: tuple[str, ...] = ("*",)
    learning_rate: float | None = None


@dataclass(frozen=True)
class Pairing:
    """A teacher and a student that compare their layers.

    Attributes:
        teacher: The teacher's name in published tables.
        student: The student's.
        theirs: Where methods look at the teacher.
        ours: Where they look at the student.
    """

    teacher: str
    student: str
    theirs: Taps
    ours: Taps

    @property
    def shared(self) -> int:
        """Stages that are compared one by one: of the network that has more the last are left out, as in the tables."""
        return min(len(self.ours.stages), len(self.theirs.stages))

    @property
    def reused(self) -> ReusedHead:
        """How the student of SimKD takes over its teacher's classifier."""
        return ReusedHead(student=self.ours.cut, teacher=self.theirs.stages[-1])

    def methods(self) -> Terms:
        """What each method minimises, after its initialisation if it has one."""
        relations: Terms = {
            "correlation": (Labels(), Correlation()),
            "cckernel": (Labels(), CCKernel()),
            "rkd": (Labels(), RKD()),
            "pkt": (Labels(), PKT()),
            "crd": (Labels(), CRD()),
            "crd+kd": (Labels(), KD(), CRD()),
        }
        return self._responses() | self._stages() | self._last() | self._all_layers() | relations

    def unfit(self) -> set[str]:
        """Methods that cannot compare such networks: layers of unlike width, no ReLU behind a batch norm."""
        # Tables have the flow of solution wherever it fits.
        flow = published.accuracy("fsp", self.teacher, self.student) is not None
        margins = all(tap.endswith(".pre") for tap in self.theirs.before)
        return {name for name, fits in (("fsp", flow), ("ofd", margins)) if not fits}

    def initialisations(self) -> dict[str, First]:
        """What comes first, by method."""
        n, ours, theirs = self.shared, self.ours, self.theirs
        paraphrase = Factor(
            weight=1.0, phase="paraphrase", collapse=True, student=ours.maps[-1:], teacher=theirs.maps[-1:]
        )
        moving = ("learned.factor.*.paraphraser.*", "learned.factor.*.restorer.*")
        return {
            "ab": First(AB(student=ours.before[:n], teacher=theirs.before[:n])),
            "fsp": First(FSP(student=ours.maps[: n + 1], teacher=theirs.maps[: n + 1])),
            "factor": First(paraphrase, moving, learning_rate=0.01),
        }

    def _responses(self) -> Terms:
        pair = self.teacher, self.student
        labels, few = Labels(), Labels(weight=0.1)
        temperature, weight = published.STANDARDIZED_KD.get(pair, (2.0, 9.0))
        beta = published.DKD_BETA.get(pair, 8.0)
        # On standardized logits only 2 and 8 were used.
        other = DKD(weight=9.0, beta=2.0 if beta == 2 else 8.0, temperature=2.0, standardize=True)
        standardized = MLKD(weight=9.0, temperatures=(2.0, 2.0, 3.0, 5.0, 6.0), standardize=True)
        return {
            "kd": (few, KD(weight=0.9)),
            "kd+ls": (few, KD(weight=weight, temperature=temperature, standardize=True)),
            "ctkd": (few, CTKD()),
            "dkd": (labels, DKD(beta=beta)),
            "dkd+ls": (labels, other),
            "nkd": (labels, NKD()),
            "wsld": (labels, WSLD()),
            "dist": (labels, DIST()),
            "ttm": (labels, TTM()),
            "wttm": (labels, WTTM()),
            "wttm+crd": (labels, WTTM(), CRD()),
            "rld": (labels, RLD()),
            "mlkd": (Labels(weight=0.2), MLKD()),
            "mlkd+ls": (Labels(weight=0.2), standardized),
        }

    def _stages(self) -> Terms:
        n, ours, theirs = self.shared, self.ours, self.theirs
        s, t = ours.maps[1 : n + 1], theirs.maps[1 : n + 1]
        lower, upper = (*ours.stages[:n], "pooled"), (*theirs.before[:n], "pooled")
        weight = published.REVIEW_WEIGHT.get((self.teacher, self.student), 5.0)
        return {
            "hint": (Labels(), Hint(student=s[1:2], teacher=t[1:2])),
            "attention": (Labels(), Attention(student=s, teacher=t)),
            "nst": (Labels(), NST(student=s, teacher=t)),
            "vid": (Labels(), VID(student=s, teacher=t)),
            "ab": (Labels(),),
            "fsp": (Labels(),),
            "ofd": (Labels(), OFD(student=ours.before[:n], teacher=theirs.before[:n])),
            "review": (Labels(), Review(weight=weight, student=lower, teacher=upper)),
        }

    def _last(self) -> Terms:
        read = ("pool:in",)  # The map whose mean the classifier reads.
        weight, resolution, normalise = published.CLASS_MAPS.get((self.teacher, self.student), published.ClassMaps())
        class_maps = CATKD(weight=weight, student=read, teacher=read, resolution=resolution, normalise=normalise)
        projected = SimKD(student=("projected",), teacher=self.theirs.stages[-1:], connector=Identity())
        s, t = self.ours.maps[-1:], self.theirs.maps[-1:]
        return {
            "factor": (Labels(), Factor(weight=200.0, collapse=True, student=s, teacher=t)),
            "simkd": (projected,),
            "srrl": (Labels(), KD(), SRRL(student=read)),
            "catkd": (Labels(), class_maps),
            "mgd": (Labels(), MGD(student=s, teacher=t)),
            "ickd": (Labels(), ICKD(student=s, teacher=t)),
            "similarity": (Labels(), Similarity(student=s, teacher=t)),
        }

    def _all_layers(self) -> Terms:
        s, t = self.ours.maps[1:], self.theirs.maps[1:]
        return {
            "ofa": (Labels(), OFA(student=self.ours.stages)),
            "semckd": (Labels(), KD(), SemCKD(student=s, teacher=t)),
            "afd": (Labels(weight=0.1), KD(weight=0.9), AFD(student=s, teacher=t)),
        }
