"""The part of a page that looks closer: classes, confidence, fidelity, layers and single images."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from potstill.report import confusion, fidelity, reliability, similarity
from potstill.report.attached import CKA, FOLDER, PICTURES, Pictures, read_pictures, read_similarity
from potstill.report.cases import TEMPERATURES, Cases, cases, gallery, softened
from potstill.report.entry import Entry
from potstill.report.figures import Marks
from potstill.report.find import Notice
from potstill.report.plate import Plate
from potstill.report.rows import Row, spread, students
from potstill.report.sheet import Sheet
from potstill.report.study import Arm, Study, study
from potstill.report.words import measured

SPOKEN = 5
"""How many classes of the teacher's distribution are shown."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Card:
    """A test image with what was said about it.

    Attributes:
        image: Its place in the test split.
        picture: A data URI; empty where `potstill analyze` kept none.
        lines: What stands beside it.
        spoken: Classes with their probabilities in percent, one per temperature.
    """

    image: int
    picture: str
    lines: tuple[str, ...]
    spoken: tuple[tuple[str, tuple[float, ...]], ...] = ()


@dataclass(frozen=True)
class Singles:
    """The single images of one arm, under their headings; `broad` where names of classes need room."""

    arm: str
    summary: str
    broad: bool
    lists: tuple[tuple[str, tuple[Card, ...]], ...]


@dataclass(frozen=True)
class Analysis:
    """Everything of the part, ready to be set; what could not be made is empty or None."""

    fidelity: tuple[Plate, ...] = ()
    matrices: tuple[Plate, ...] = ()
    pairs: Sheet | None = None
    deltas: Plate | None = None
    classes: Sheet | None = None
    reliability: Plate | None = None
    layers: Plate | None = None
    gallery: tuple[Card, ...] = ()
    singles: tuple[Singles, ...] = ()
    temperatures: tuple[int, ...] = TEMPERATURES
    few: str = ""
    hint: str = ""
    notices: tuple[Notice, ...] = ()

    @property
    def plates(self) -> tuple[Plate, ...]:
        """All its figures."""
        single = (self.deltas, self.reliability, self.layers)
        return (*self.fidelity, *self.matrices, *(plate for plate in single if plate is not None))

    @property
    def empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.fidelity or self.reliability or self.notices)


def analysis(name: str, table: Sequence[Row], marks: Marks) -> Analysis:
    """What the records of a comparison's arms tell beyond their results; `name` is unique on the page."""
    scatter = tuple(fidelity.scatter(name, table, marks))
    found, notices = study(table)
    if found is None:
        return Analysis(fidelity=scatter, notices=_gathered(notices))
    layers, pictures, missing = _attached(found)
    names = _names(found, pictures)
    shots = {place: image for each in pictures for place, image in each.images.items()}
    return Analysis(
        fidelity=scatter,
        matrices=tuple(confusion.matrices(name, found, names)),
        pairs=confusion.confused(found, names),
        deltas=confusion.delta_plate(name, found, names),
        classes=confusion.by_class(found, names),
        reliability=reliability.diagrams(name, found),
        layers=similarity.plate(name, layers),
        gallery=_gallery(found, names, shots),
        singles=tuple(_singles(each, found, names, shots) for each in cases(found)),
        few=_few(found, table),
        hint="" if pictures else "Pictures and the similarity of layers are added by <code>potstill analyze</code>.",
        notices=_gathered((*notices, *missing)),
    )


def _few(found: Study, table: Sequence[Row]) -> str:
    arms = len(students(table))
    if arms == len(found.arms):
        return ""
    return f"Of {arms} arms {len(found.arms)} are looked at: {'; '.join(arm.name for arm in found.arms)}."


def _gathered(notices: Sequence[Notice]) -> tuple[Notice, ...]:
    """One notice per sentence, with all who share it."""
    shared: dict[str, list[str]] = {}
    for notice in notices:
        shared.setdefault(notice.sentence, []).append(notice.name)
    return tuple(
        Notice(_list(names), sentence.replace("the run is", "the runs are") if len(names) > 1 else sentence)
        for sentence, names in shared.items()
    )


def _list(names: Sequence[str]) -> str:
    return "; ".join(names) if len(names) <= 6 else f"{'; '.join(names[:5])} and {len(names) - 5} more"


def _attached(found: Study) -> tuple[similarity.Found, list[Pictures], list[Notice]]:
    """What `potstill analyze` left in the run folders."""
    notices: list[Notice] = []
    layers = [(arm.name, _read(arm.entries, CKA, read_similarity, notices)) for arm in found.arms]
    entries = [entry for arm in found.arms for entry in arm.entries]
    pictures = _read(entries, PICTURES, read_pictures, notices)
    return layers, pictures, notices


def _read(entries: Sequence[Entry], file: str, read: Callable[..., Found], notices: list[Notice]) -> list[Found]:
    """One file of several runs. That a run has none is told only where others have theirs."""
    there = [(entry.record.folder / FOLDER / file).exists() for entry in entries]
    kept: list[Found] = []
    for entry in entries if any(there) else ():
        try:
            kept.append(read(entry.record.folder))
        except ValueError as error:
            sentence = f"{FOLDER}/{file} {error}; potstill analyze writes it anew."
            notices.append(Notice(f"{entry.arm}, seed {entry.outcome.seed}", sentence))
    return kept


def _names(found: Study, pictures: Sequence[Pictures]) -> tuple[str, ...]:
    """The classes by name where those are known, else by number."""
    known = [each.classes for each in pictures if len(each.classes) == found.classes]
    return known[0] if known else tuple(str(k) for k in range(found.classes))


def _picture(shots: Mapping[int, bytes], image: int) -> str:
    shot = shots.get(image)
    return "" if shot is None else f"data:image/png;base64,{base64.b64encode(shot).decode()}"


def _gallery(found: Study, names: Sequence[str], shots: Mapping[int, bytes]) -> tuple[Card, ...]:
    if found.logits is None:
        return ()
    cards: list[Card] = []
    for shown in gallery(found):
        spoken = [softened(found.logits[shown.image], temperature) for temperature in TEMPERATURES]
        # The order of classes is the same at every temperature.
        order = [int(k) for k in (-spoken[0]).argsort(kind="stable")[:SPOKEN]]
        lines = (shown.why, f"Label: {names[found.labels[shown.image]]}")
        rows = tuple((names[k], tuple(100 * float(each[k]) for each in spoken)) for k in order)
        cards.append(Card(shown.image, _picture(shots, shown.image), lines, rows))
    return tuple(cards)


def _singles(each: Cases, found: Study, names: Sequence[str], shots: Mapping[int, bytes]) -> Singles:
    def cards(images: Sequence[int]) -> tuple[Card, ...]:
        shown = (found.reference, each.arm) if found.teacher is None else (found.teacher, found.reference, each.arm)
        return tuple(
            Card(
                image,
                _picture(shots, image),
                (f"Label: {names[found.labels[image]]}", *(_said(arm, image, names) for arm in shown)),
            )
            for image in images
        )

    lists = (
        (f"Right where {found.teacher.name} is wrong" if found.teacher else "", cards(each.beats)),
        ("Helped", cards(each.helped)),
        ("Hurt", cards(each.hurt)),
    )
    return Singles(
        each.arm.name,
        _turned(each, found),
        max(map(len, names)) > 3,
        tuple((head, shown) for head, shown in lists if shown),
    )


def _said(arm: Arm, image: int, names: Sequence[str]) -> str:
    guess, votes = arm.said(image)
    counted = "" if arm.n == 1 else f" ({votes}/{arm.n})"
    return f"{arm.name}: {names[guess]}{counted}"


def _turned(each: Cases, found: Study) -> str:
    if not each.gained:
        return f"It has no seed in common with {found.reference.name}."
    places = 0 if len(each.gained) == 1 else 1
    gained, lost = (measured(spread(counts), 1, places) for counts in (each.gained, each.lost))
    seeds = "1 seed" if len(each.gained) == 1 else f"{len(each.gained)} seeds"
    return (
        f"Of {len(found.labels):,} test images it has {gained} right that {found.reference.name} has wrong, and {lost} "
        f"wrong that {found.reference.name} has right (per seed, over {seeds})."
        + (" In brackets: how many seeds say so." if each.arm.n > 1 else "")
    )
