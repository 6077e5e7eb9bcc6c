import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.colors import to_rgb
from matplotlib.image import imread

from potstill.errors import UserError
from potstill.report import write
from potstill.report.style import DASHES, MARKERS, PAGE, PAPER

from .folders import Runs, attach, hinton, predicted, twins


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return print_into(tmp_path_factory.mktemp("printed"), hinton)


def print_into(folder: Path, *fill: Callable[[Runs], object]) -> Path:
    runs = Runs(folder / "runs")
    runs.folder.mkdir()
    for each in fill:
        each(runs)
    write([runs.folder], folder / "out", figures=folder / "figures")
    return folder / "figures"


def assert_all_printed(figures: Path) -> set[str]:
    """Their names."""
    names = {path.stem for path in figures.iterdir()}
    assert {path.name for path in figures.iterdir()} == {f"{name}.{kind}" for name in names for kind in KINDS}
    assert len(names) == (figures.parent / "out/report.html").read_text().count("<svg ") > 9
    return names


def test_every_drawing_of_the_page_is_a_pdf_an_svg_and_a_png(printed: Path):
    assert {
        "mnist-hinton-seeds",
        "mnist-hinton-differences",
        "mnist-hinton-size",
        "mnist-hinton-validation-accuracy",
        "mnist-hinton-loss-2-hard-soft",
    } <= assert_all_printed(printed)


@pytest.mark.slow
def test_every_drawing_of_an_analysis_is_printed(tmp_path: Path):
    assert {
        "mnist-predicted-change-1-soft",
        "mnist-predicted-cka-0-labels",
        "mnist-predicted-reliability-3-hint-b",
    } <= assert_all_printed(print_into(tmp_path, predicted, attach))


KINDS = ("pdf", "svg", "png")


def test_letters_stay_letters(printed: Path):
    pdf = (printed / "mnist-hinton-seeds.pdf").read_bytes()
    assert b"/Subtype /Type0" in pdf or b"/Subtype /TrueType" in pdf
    assert b"/Subtype /Type3" not in pdf
    assert b"/CreationDate" not in pdf
    root = ElementTree.fromstring((printed / "mnist-hinton-seeds.svg").read_text())
    space = "{http://www.w3.org/2000/svg}"
    texts = ["".join(text.itertext()).strip() for text in root.iter(f"{space}text")]
    assert {"soft", "test accuracy, %"} <= set(texts)
    assert root.findtext(f"{space}title") == "Test accuracy of every run, by arm"
    assert "hard+soft 94." in (root.findtext(f"{space}desc") or "")
    assert root.get("role") == "img"
    assert all("Arial, Helvetica" in (text.get("style") or "") for text in root.iter(f"{space}text"))


def test_a_png_is_a_column_wide_at_300_dots_per_inch(printed: Path):
    assert imread(printed / "mnist-hinton-seeds.png").shape[1] == 3.5 * 300


def test_nothing_of_the_pages_stand_in_colours_is_left(printed: Path):
    for path in printed.glob("*.svg"):
        assert not re.search(r"#0102[01][0-9a-f]\b", path.read_text()), path
        assert "var(--" not in path.read_text(), path


def test_the_same_runs_give_the_same_files(runs: Runs, tmp_path: Path):
    for seed in (1, 2, 3):
        runs.run("hard", seed, 0.9 + seed / 1000)
    file = runs.sweep()
    for place in ("a", "b"):
        write([file], tmp_path / "out", figures=tmp_path / place)
    for path in sorted((tmp_path / "a").iterdir()):
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_two_sweeps_of_one_recipe_are_not_printed_into_one_folder(tmp_path: Path):
    with pytest.raises(UserError, match=r"Two sweeps would both be saved as .*mnist-hinton; report them one by one\."):
        write(twins(tmp_path), tmp_path / "out", figures=tmp_path / "figures")
    assert not (tmp_path / "figures").exists()


def test_colours_of_a_paper_are_unlike_greys_too():
    def lightness(colour: str) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return 116 * (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]) ** (1 / 3) - 16

    greys = sorted(lightness(colour) for colour in PAPER.colours)
    assert all(b - a > 5 for a, b in pairwise(greys))
    assert greys[-1] < 80
    assert len(set(map(str, DASHES))) == len(set(MARKERS)) == len(PAPER.colours) == len(PAGE.colours)
