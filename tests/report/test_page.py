import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from potstill.report import write
from potstill.report.tables import DASH

from .folders import NO_TEACHER, Runs, guesses, hinton, predict

VOID = {"meta", "link", "br", "hr", "img", "input"}


class Reader(HTMLParser):
    """Checks that every element is closed in its turn, and keeps ids, references and the cells of the comparison."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.references: list[str] = []
        self.outside: list[str] = []
        self.cells: list[list[str]] = []
        self.heads: list[dict[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"] or ""] if "id" in values else []
        for key in ("href", "src", "xlink:href", "srcset", "action", "data"):
            if key in values:
                target = values[key] or ""
                (self.references if target.startswith("#") else self.outside).append(target)
        for style in re.findall(r"url\(#([^)]*)\)", str(values)):
            self.references.append("#" + style)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th") and self.cells:
            self.cells[-1].append("")
        if tag == "th":
            self.heads.append(values)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.cells and self.cells[-1] and self.open[-1] != "title":
            self.cells[-1][-1] += data


def comparison(page: Path) -> dict[str, list[str]]:
    """The cells of the first table by the name of their row; tables below it repeat the names."""
    rows: dict[str, list[str]] = {}
    for row in read(page).cells:
        if row:
            rows.setdefault(row[0].strip(), [cell.strip() for cell in row])
    return rows


def read(page: Path) -> Reader:
    reader = Reader()
    reader.feed(page.read_text())
    reader.close()
    return reader


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    runs = Runs(folder / "runs")
    runs.folder.mkdir()
    hinton(runs)
    for temperature in (1, 2, 4):
        for alpha in (0.2, 0.8):
            settings = {"temperature": temperature, "alpha": alpha}
            runs.run(f"T={temperature} <a={alpha}>", 1, 0.9 + alpha / 100 + temperature / 999, settings=settings)
    runs.sweep("mnist:hinton_grid", command='potstill run "mnist:hinton_grid" & wait')
    return write([runs.folder], folder / "out")


def test_the_page_is_well_formed_and_needs_nothing_else(page: Path):
    reader = read(page)
    assert reader.open == []
    assert len(reader.ids) == len(set(reader.ids))
    assert {reference[1:] for reference in reader.references} <= set(reader.ids)
    assert reader.outside == ["data:,"]
    text = page.read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert "@import" not in text
    assert all(head.get("scope") in ("col", "row", "colgroup") for head in reader.heads)


def test_names_of_users_are_escaped(page: Path):
    text = page.read_text()
    assert "T=1 &lt;a=0.2&gt;" in text
    assert "<a=" not in text
    assert "potstill run &#34;mnist:hinton_grid&#34; &amp; wait" in text


def test_colours_are_the_pages(page: Path):
    drawings = re.findall(r"<svg.*?</svg>", page.read_text(), flags=re.S)
    assert len(drawings) > 15
    for drawing in drawings:
        assert not re.search(r"#[0-9a-f]{6}\b", drawing)
        assert drawing.startswith("<svg viewBox=")
        assert 'role="img"' in drawing
        assert re.search(r"<title id=.*?>.+?</title><desc id=.*?>.+?</desc>", drawing, flags=re.S)


def test_every_word_of_a_figure_is_text(page: Path):
    drawing = re.findall(r"<svg.*?</svg>", page.read_text(), flags=re.S)[0]
    assert all(f">{line}</text>" in drawing for line in ("hard+soft, published", "reduction", "test accuracy, %"))


def test_table_values_equal_the_records(runs: Runs, tmp_path: Path):
    file = hinton(runs)
    rows = comparison(write([file], tmp_path / "out"))
    named = json.loads(file.read_text())["runs"]
    for arm in ("hard", "soft", "hard+soft"):
        entries = [run for run in named if run["arm"] == arm]
        folders = [runs.folder / run["folder"] for run in entries]
        results = [json.loads((folder / "result.json").read_text()) for folder in folders]
        mean = sum(result["test_accuracy"] for result in results) / 5
        std = (sum((result["test_accuracy"] - mean) ** 2 for result in results) / 4) ** 0.5
        spread = f"{100 * std:.2f}".lstrip("0")
        assert rows[arm][1:4] == ["5", f"{100 * mean:.2f}± {spread}", f"{100 * entries[0]['published']:.2f}"]
        nll = sum(result["test_nll"] for result in results) / 5
        assert rows[arm][9].startswith(f"{nll:.4f}±")
    assert rows["teacher"][1:4] == ["1", "99.03", "99.03"]


def test_verdicts_stand_with_their_numbers_and_their_rule(runs: Runs, tmp_path: Path):
    reader = read(page := write([hinton(runs)], tmp_path / "out"))
    rows = comparison(page)
    accuracies = {
        arm: [float(value) / 100 for value in line] for arm, line in seeds(tmp_path / "out/report.md").items()
    }
    found = stats.ttest_rel(accuracies["soft"], accuracies["hard"])
    # Three arms are compared; one lies farther from the reference, so this one is held against half of 5 %.
    low, high = (f"{100 * end:+.2f}".replace("-", "\N{MINUS SIGN}") for end in found.confidence_interval(0.975))
    mean = 100 * (sum(accuracies["soft"]) - sum(accuracies["hard"])) / 5
    assert rows["soft"][4] == f"undecided {mean:+.2f} [{low}, {high}]"
    assert rows["soft"][5] == f"{2 * found.pvalue:.3f}".lstrip("0")
    assert rows["soft"][6] == "7"
    assert rows["hard"][4:7] == rows["teacher"][4:7] == [DASH] * 3
    rule = (
        "Verdict: mean difference to hard over the seeds of both, in points, with the 97.5 to 98.33 % interval of a "
        "paired two-sided t test, 3 arms corrected together (Holm); better or worse where the interval excludes 0 (no "
        "margin), undecided else and for two seeds. n needed: seeds that decide with 80 % power if mean and spread are "
        "the true ones."
    )
    assert [head["title"] for head in reader.heads if "Verdict" in (head.get("title") or "")] == [rule]
    assert f"loss that is the same for every arm. {rule}</span></caption>" in (tmp_path / "out/report.html").read_text()


def seeds(document: Path) -> dict[str, list[str]]:
    """The cells of the table of seeds in a report's Markdown."""
    _, _, text = document.read_text().partition("## Test accuracy per seed, %")
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return {arm: cells for arm, *cells in lines if DASH not in cells}


def test_columns_without_a_value_are_left_out(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9, **NO_TEACHER, best_validation_test_accuracy=None, best_last_gap=None)
    text = write([runs.sweep()], tmp_path / "out").read_text()
    for head in ("published", "verdict", "best validation", "agreement", "teachers"):
        assert f'<span class="name">{head}</span>' not in text
    assert '<span class="name">NLL</span>' in text


def test_own_objectives_are_labelled_and_the_common_measure_is_named(page: Path):
    text = page.read_text()
    assert "Each arm minimises an objective of its own: heights are not to be compared between arms." in text
    assert "Validation NLL" in text


def test_models_and_environment(page: Path):
    text = page.read_text()
    assert re.search(r"<strong>mlp16</strong>.*?12,730 parameters, 12.73 k mult-adds", text)
    assert "<td>1 \N{MULTIPLICATION SIGN} 16</td>" in text
    assert "<dt>commit</dt><dd>0123456789abcdef0123</dd>" in text
    assert "<dt>software</dt><dd>Potstill 0.1.0, Python 3.11.7, PyTorch 2.15.0</dd>" in text
    assert "<dt>machine</dt><dd>cpu (Some CPU), 1 thread, fp32</dd>" in text


def test_a_network_is_described_once_whatever_a_run_keeps_fixed(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9)
    folder = runs.run("hint", 1, 0.9)
    summary = json.loads((folder / "summary.json").read_text())
    summary["student"]["trainable_parameters"] -= 1
    (folder / "summary.json").write_text(json.dumps(summary))
    text = write([runs.sweep()], tmp_path / "out").read_text()
    assert text.count("<summary><strong>mlp16</strong>") == 1
    assert "hard, hint</span></summary>" in text


def test_several_devices_are_counted(runs: Runs, tmp_path: Path):
    runs.run("hard", 1, 0.9, environment={"devices": 2})
    assert "2 × cpu (Some CPU), 1 thread" in write([runs.sweep()], tmp_path / "out").read_text()


def test_a_run_that_changed_machines_is_remarked(runs: Runs, tmp_path: Path):
    resumed = {"resumed": [{"step": 1200, "differences": ["threads 2, was 1"]}]}
    runs.run("hard", 1, 0.9, environment=resumed, bitwise=False)
    text = write([runs.sweep()], tmp_path / "out").read_text()
    assert "It was continued at step 1200 elsewhere (threads 2, was 1); not bitwise from there." in text


def test_many_arms_are_limited_and_the_caption_says_so(runs: Runs, tmp_path: Path):
    for place in range(40):
        runs.run(f"arm {place}", 1, 0.8 + place / 1000, count=2)
    text = write([runs.sweep()], tmp_path / "out").read_text()
    assert "Of 40 arms the first and the 29 best others are shown." in text
    assert "Of 40 arms the first and the 5 best others are shown." in text
    assert "Of 40 arms the first and the 11 best others are shown." in text
    assert len(re.findall("<svg", text)) == 3 + 12 + 12 + 2  # The last two are those of fidelity.


def test_the_same_runs_give_the_same_page(runs: Runs, tmp_path: Path):
    file = hinton(runs)
    assert write([file], tmp_path / "a").read_bytes() == write([file], tmp_path / "b").read_bytes()


def test_runs_with_nothing_but_the_needed(runs: Runs, tmp_path: Path):
    folder = runs.run("hard", 1, 0.9)
    for name in ("env.json", "summary.json", "metrics.jsonl"):
        (folder / name).unlink()
    text = write([folder], tmp_path / "out").read_text()
    assert "mnist-hinton-hard reaches 90.00 % (n = 1) test accuracy." in text
    assert "not recorded" in text


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 20])
def test_five_hundred_runs_take_seconds(runs: Runs, tmp_path: Path, groups: int):
    for group in range(groups):
        for arm in range(100 // groups):
            for seed in range(5):
                name = f"g{group}-a{arm}"
                runs.run(name, seed, 0.9 + 0.001 * (arm % 7) + 0.0001 * seed, terms=("labels", "kd"), count=30)
        runs.sweep(f"many:r{group}")
    labels = np.arange(1000) % 10
    for place, folder in enumerate(sorted(runs.folder.glob("*/"))):
        predict(folder, guesses(labels, place % 9, 0.1), labels)
    start = time.process_time()
    write([runs.folder], tmp_path / "out")
    assert time.process_time() - start < 10
