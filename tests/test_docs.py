"""What the README and the documentation show is tried: Python is executed, commands are run or at least planned."""

import importlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
import tyro

from potstill import cli, recipes
from potstill.errors import UserError
from potstill.verbs import catalogue, evidence, tune
from potstill.verbs.flags import Flags
from potstill.verbs.report import Report

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (\w+\.py), then: (potstill .*)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, its text, and the line that it starts on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The Python and shell blocks of a page, in order."""
    text = page.read_text()
    found = [Block(m[1], m[2], text.count("\n", 0, m.start(2))) for m in BLOCK.finditer(text)]
    return [block for block in found if block.language in ("python", "sh")]


SHOWN = [
    # The commands of the README are those of the pages, which repeat them with more words.
    pytest.param(page, language, id=f"{page.relative_to(ROOT)}-{language}", marks=[pytest.mark.slow] if slow else [])
    for page in PAGES
    for language in dict.fromkeys(block.language for block in blocks(page))
    for slow in [language == "sh" and page.name != "README.md"]
]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart, as short as can be, whose teacher serves every page."""
    folder = tmp_path_factory.mktemp("runs")
    words = ["run", "digits:quickstart", "--epochs", "1", "--seeds", "1", "--runs-dir", str(folder), "--quiet"]
    assert cli.main(words) == 0
    return folder


@pytest.mark.parametrize(("page", "language"), SHOWN)
def test_what_a_page_shows_works(
    page: Path, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """The blocks of a page share one folder and one namespace, as they do for who pastes them one after another."""
    monkeypatch.chdir(tmp_path)
    shown = [block for block in blocks(page) if block.language == language]
    if any(" digits:" in block.text for block in shown):
        for teacher in request.getfixturevalue("runs").glob("*teacher*"):
            shutil.copytree(teacher, tmp_path / "runs" / teacher.name)
    module = ModuleType("shown_on_a_page")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in shown:
        if language == "python":
            # The empty lines let a traceback name the line of the page.
            exec(compile("\n" * block.line + block.text, str(page), "exec"), vars(module))
            if file := FILE.match(block.text):
                Path(file[1]).write_text(block.text)
                try_line(file[2])
        else:
            for line in block.text.replace("\\\n", " ").splitlines():
                try_line(line)


def try_line(line: str) -> None:
    """One line of shell: run if it is quick and needs nothing, else planned."""
    program, *words = shlex.split(line, comments=True) or [""]
    if program in ("", "make"):  # Targets of make are what CI runs.
        return
    assert program == "potstill", f"This test does not know how to try {line!r}."
    if words[0] == "report" and not all(path.exists() for path in report(words).runs):
        check_sweep_names(report(words))
        return
    if words[0] == "compare":  # Folders carry fingerprints, which differ from machine to machine.
        tyro.cli(evidence.Compare, args=words[1:])
        return
    if words[0] == "plan" and tyro.cli(evidence.Plan, args=words[1:]).spread is None:
        check_sweep_names(report(["report", *(word for word in words[1:] if word.endswith(".json"))]))
        return
    if words[0] == "tune":
        if not words[1].startswith("digits:"):
            tune.asked(words[1:])
            return
        words = [*words, "--epochs", "1", "--trials", "2"]
    if words[0] in ("run", "cache") and not words[1].startswith("-"):
        digits = words[1].startswith("digits:")
        words = [*words, "--epochs", "1", *seeds(words)] if digits else ["show", *words[1:]]
    assert cli.main(words) == 0, line


def seeds(words: list[str]) -> list[str]:
    """What makes a command stay with a single seed."""
    return [] if "--seed" in words else ["--seeds", "1"]


def report(words: list[str]) -> Report:
    """What a report's flags ask for; a flag that does not exist ends the test."""
    return tyro.cli(Report, args=words[1:])


def check_sweep_names(asked: Report) -> None:
    """Files of sweeps that were only planned have the name that their recipe would give them."""
    known = {f"{name.replace(':', '-')}.sweep.json" for name in recipes.names()}
    assert {path.name for path in asked.runs} <= known
    assert all(path.parent == Flags.runs_dir for path in asked.runs)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("potstill run digits:quickstart --temprature 3", "SystemExit"),
        ("potstill report runs/mnist-hintn.sweep.json", "AssertionError"),
        ("potstil list", "AssertionError"),
        ("potstill tune mnist:hinton --over temperatures=1:2", "UserError"),
        ("potstill plan --diference 1", "SystemExit"),
        ("potstill plan --difference .3 runs/mnist-hintn.sweep.json", "AssertionError"),
        ("potstill compare one", "SystemExit"),
    ],
)
def test_a_wrong_line_is_noticed(line: str, reason: str) -> None:
    with pytest.raises((SystemExit, AssertionError, UserError)) as caught:
        try_line(line)
    assert caught.typename == reason


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The two hooks of mkdocs, which import one another as neighbours."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    return importlib.import_module("build_methods"), importlib.import_module("build_tables")


def test_every_method_has_a_page_in_the_order_of_the_package(hooks: Any) -> None:
    pages = hooks[0].pages()
    names = list(dict.fromkeys(kind.__module__.rpartition(".")[2] for kind in catalogue.terms()))
    assert [page.path for page in pages] == [f"methods/{name}.md" for name in names]
    text = {page.path: page.text for page in pages}["methods/kd.md"]
    assert text.startswith("# Soft targets\n\nGeoffrey Hinton")
    assert "::: potstill.methods.kd.kd_loss" in text
    assert "| `temperature` | `4.0` | T > 0. |" in text
    assert "| `warmup` | `0.0` | Epochs over which" in text
    assert "## Pitfalls\n\nThe paper's T²" in text


def test_every_table_is_shown_and_none_is_missing(hooks: Any) -> None:
    tables = hooks[1]
    asked = [name for page in PAGES for name in tables.MARKER.findall(page.read_text())]
    assert sorted(asked) == sorted(tables.TABLES)


def test_tables_tell_what_the_package_has(hooks: Any) -> None:
    fill = hooks[1].on_page_markdown
    assert "| `--epochs` |  | Length of every student's training" in fill("<!-- table: flags -->")
    assert "| `--alpha` | `0.9` | Share of the soft loss" in fill("<!-- table: recipes -->")
    assert "| `threads` | 1 where the student has less than 1 M mult-adds" in fill("<!-- table: machine -->")
    assert '| `result.json` | every number that a table shows, written last: its presence is "finished" |' in fill(
        "<!-- table: run-folder -->"
    )


def test_results_stand_where_a_page_asks_for_them(hooks: Any, tmp_path: Path) -> None:
    tables = hooks[1]
    asked = [name for page in PAGES for name in tables.RESULTS.findall(page.read_text())]
    assert {"cifar10-fitnets", "cifar100-benchmark"} <= set(asked)
    benchmark = "accuracy.py:accuracy"  # Of a file and not of the package.
    assert set(asked) <= {name.replace(":", "-") for name in (*recipes.names(), benchmark)}
    assert "| hard+soft | 94.82 ± .12 (n = 5) |" in tables.on_page_markdown("<!-- results: mnist-hinton -->")
    (tmp_path / "some.md").write_text("# a: its title\n\nText.\n\n## Per seed\n\n| arm |\n")
    assert tables.saved(tmp_path / "some.md") == "Text.\n\n#### Per seed\n\n| arm |"
    assert tables.saved(tmp_path / "none.md").startswith("None is recorded yet: `results/none.md`")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "methods" / "kd" / "index.html").exists()
    assert "<td>1,233,540</td>" in (tmp_path / "models" / "index.html").read_text()
    outside = [page for page in tmp_path.rglob("*.html") if re.search(r'(src|href)="https?://', page.read_text())]
    assert not outside, "The site asks another host for something."


def recorded(recipe: str) -> Any:
    return json.loads((ROOT / "results" / f"{recipe}.json").read_text())


def told(figure: str) -> str:
    """What a committed figure says in words and numbers."""
    root = ElementTree.fromstring((ROOT / "docs" / "figures" / f"{figure}.svg").read_text())
    return root.findtext("{http://www.w3.org/2000/svg}desc") or ""


def points(value: float) -> str:
    return f"{100 * value:+.2f}".replace("-", "\N{MINUS SIGN}")


def test_the_figures_that_pages_show_are_of_the_recorded_runs():
    """What a figure tells beside its drawing is written with it, so both are of the same runs."""
    for recipe in ("mnist-hinton", "mnist-hinton_best"):
        for row in recorded(recipe)["rows"]:
            accuracy = row["test_accuracy"]
            if row["arm"] != "teacher":
                spread = f"{100 * accuracy['std']:.2f}".removeprefix("0")
                expected = f"{row['arm']} {100 * accuracy['mean']:.2f} ± {spread} % (n = {row['n']})"
                assert expected in told(f"{recipe}-seeds")
    cells = told("mnist-hinton_grid-heat-temperature-alpha").partition("Over alpha, in %. ")[2].split(". ")
    rows = {row["arm"]: row for row in recorded("mnist-hinton_grid")["rows"]}
    for line in cells:
        temperature, _, found = line.rstrip(".").removeprefix("temperature ").partition(": ")
        for alpha, mean in (pair.split() for pair in found.split(", ")):
            row = rows.pop(f"T {temperature}, α {alpha}")
            assert mean == f"{100 * row['test_accuracy']['mean']:.2f}"
    assert set(rows) == {"teacher"}
    for recipe in ("mnist-hinton", "cifar10-fitnets"):
        for rung in recorded(recipe)["ladder"][1:]:
            expected = f"{rung['change']}: {rung['verdict']['word']} {points(rung['verdict']['mean'])} ["
            assert expected in told(f"{recipe}-ladder")


def test_every_figure_is_shown_and_every_shown_one_is_there():
    shown = {found for page in PAGES for found in re.findall(r"figures/([\w.-]+\.svg)", page.read_text())}
    assert shown == {path.name for path in (ROOT / "docs" / "figures").iterdir()}
    assert (ROOT / "README.md").read_text().count("<img src=") == 2


def test_the_readmes_table_is_the_recorded_one():
    """Arm, measured and published are the first cells of the saved table's rows."""
    readme = (ROOT / "README.md").read_text().splitlines()
    start = readme.index("| arm | test accuracy, % | published, % |")
    shown = [
        line.removesuffix("|") for line in itertools.takewhile(lambda line: line.startswith("|"), readme[start + 2 :])
    ]
    saved = (ROOT / "results" / "mnist-hinton.md").read_text().splitlines()
    assert len(shown) == 5
    for row in shown:
        assert any(line.startswith(row) for line in saved), row
