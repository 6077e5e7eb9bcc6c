"""What is read from predictions, against sklearn, torch and plain loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save
from sklearn.metrics import confusion_matrix

from potstill import evaluate
from potstill.report.answers import answers, read_logits
from potstill.report.cases import cases, gallery, pictured, softened
from potstill.report.confusion import by_class, confused, deltas, pairs
from potstill.report.fidelity import correlation
from potstill.report.load import gather
from potstill.report.reliability import bins
from potstill.report.rows import rows
from potstill.report.study import Study, study

from .folders import NO_TEACHER, Runs, guesses, predict, predicted

LABELS = np.arange(300) % 10


def found(file: Path) -> Study:
    (group,) = gather([file]).groups
    looked_at, _ = study(rows(group))
    assert looked_at is not None
    return looked_at


def test_confusions_are_those_of_sklearn():
    logits = guesses(LABELS, 1, 0.3).astype(np.float32)
    ours = answers(logits, LABELS).confusion
    np.testing.assert_array_equal(ours, confusion_matrix(LABELS, logits.argmax(1), normalize="true"))


def test_a_class_without_images_has_none():
    table = answers(guesses(np.array([0, 0, 2]), 1, 0, 4).astype(np.float32), np.array([0, 0, 2])).confusion
    assert table[1].tolist() == [0, 0, 0, 0]
    assert table.sum() == 2


def test_probabilities_are_those_of_torch():
    logits = guesses(LABELS, 1, 0.3).astype(np.float32)
    said = answers(logits, LABELS)
    spoken = torch.from_numpy(logits).softmax(1)
    np.testing.assert_allclose(said.confidence, spoken.max(1).values, rtol=1e-5)
    np.testing.assert_allclose(said.share, spoken[range(300), LABELS], rtol=1e-5)
    expected = (torch.from_numpy(logits[3]) / 4).softmax(0)
    np.testing.assert_allclose(softened(logits[3], 4), expected, rtol=1e-5)


@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.9])
def test_the_calibration_error_is_that_of_the_results(wrong: float):
    logits = guesses(LABELS, 4, wrong).astype(np.float32)
    expected = evaluate.calibration_error(torch.from_numpy(logits), torch.from_numpy(LABELS))
    assert bins([answers(logits, LABELS)]).error == pytest.approx(expected, abs=1e-6)


def test_means_are_over_seeds_and_pairs_are_sorted(runs: Runs):
    looked_at = found(predicted(runs))
    tables = []
    for entry in looked_at.reference.entries:
        logits, labels = read_logits(entry.record.folder / "predictions.safetensors")
        tables.append(confusion_matrix(labels, logits.argmax(1), normalize="true"))
    mean = np.mean(tables, axis=0)
    np.testing.assert_allclose(looked_at.reference.confusion, mean)
    off = {(i, j): mean[i, j] for i in range(10) for j in range(10) if i != j and mean[i, j] > 0}
    listed = pairs(mean, 5)
    assert [off[pair] for pair in listed] == sorted(off.values(), reverse=True)[:5]
    sheet = confused(looked_at, [f"c{k}" for k in range(10)])
    assert sheet is not None
    assert sheet.heads == ("teacher", "labels", "soft", "hint <b>")
    name, cells = sheet.lines[0]
    i, j = listed[0]
    assert name == f"c{i} → c{j}"
    spread = np.std([table[i, j] for table in tables], ddof=1)
    assert (cells[1].text, cells[1].spread) == (f"{100 * mean[i, j]:.1f}", f"{100 * spread:.1f}".removeprefix("0"))


def test_deltas_are_paired_by_seed(runs: Runs):
    looked_at = found(predicted(runs))
    soft = looked_at.others[0]
    changes = deltas(soft, looked_at.reference)
    assert changes is not None
    for k in (0, 7):
        expected = [
            a.right[a.labels == k].mean() - b.right[b.labels == k].mean()
            for a, b in zip(soft.answers, looked_at.reference.answers, strict=True)
        ]
        assert changes[k].values == pytest.approx(expected)
    sheet = by_class(looked_at, [str(k) for k in range(10)])
    assert sheet is not None
    hardest = min(range(10), key=lambda k: (looked_at.reference.confusion[k, k], k))
    assert sheet.lines[0][0] == str(hardest)


def test_single_images_are_what_they_are_called(runs: Runs):
    looked_at = found(predicted(runs))
    teacher = looked_at.teacher
    assert teacher is not None
    each = cases(looked_at)[0]
    gain = each.arm.right - looked_at.reference.right
    assert len(each.helped) == len(each.hurt) == len(each.beats) == 6
    assert all(gain[image] > 0 for image in each.helped)
    assert gain[list(each.helped)].min() == pytest.approx(np.sort(gain)[-6])
    assert all(gain[image] < 0 for image in each.hurt)
    assert all(not teacher.answers[0].right[image] and each.arm.right[image] > 0.5 for image in each.beats)
    for seed in range(3):
        ours, theirs = each.arm.answers[seed].right, looked_at.reference.answers[seed].right
        assert each.gained[seed] == (ours & ~theirs).sum()
        assert each.lost[seed] == (theirs & ~ours).sum()


def test_the_gallery_follows_its_rules(runs: Runs):
    looked_at = found(predicted(runs))
    assert looked_at.teacher is not None
    assert looked_at.logits is not None
    said = looked_at.teacher.answers[0]
    shown = gallery(looked_at)
    assert len(shown) == len({each.image for each in shown}) == 12
    by_rule = {why: [each.image for each in shown if each.why == why] for why in {each.why for each in shown}}
    spoken = softened(looked_at.logits, 1)
    entropy = -(spoken * np.log(spoken)).sum(1)
    assert set(by_rule["It is least sure."]) == set(np.argsort(-entropy)[:3])
    assert not said.right[by_rule["It is wrong, and sure of it."]].any()
    assert said.right[by_rule["As sure as it usually is."]].all()
    told = set(pictured(looked_at))
    assert {each.image for each in shown} <= told
    assert set(cases(looked_at)[1].helped) <= told


def test_a_run_without_readable_predictions_is_named(runs: Runs):
    file = predicted(runs)
    folders = sorted(runs.folder.glob("*soft-*"))
    (folders[0] / "predictions.safetensors").unlink()
    payload = (folders[1] / "predictions.safetensors").read_bytes()
    (folders[1] / "predictions.safetensors").write_bytes(payload[:-7])
    looked_at = found(file)
    assert [arm.n for arm in looked_at.arms] == [3, 1, 3]
    assert {notice.name.partition(",")[0] for notice in looked_at.notices} == {"soft"}
    assert sorted(notice.sentence for notice in looked_at.notices) == [
        "predictions.safetensors is damaged: it cannot be read; the run is left out of this analysis.",
        "predictions.safetensors is missing; the run is left out of this analysis.",
    ]


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"logits": np.zeros((3, 2), np.float16)}, "it holds no logits or no labels"),
        ({"logits": np.zeros((3, 2), np.float16), "labels": np.zeros(2, np.int64)}, "its logits are (3, 2)"),
        ({"logits": np.zeros((2, 2), np.float16), "labels": np.array([0, 2])}, "a label is none of its 2 classes"),
        ({"logits": np.zeros((2, 2), np.float16), "labels": np.zeros(2, np.float32)}, "a label is none of its 2"),
        ({"logits": np.full((2, 2), np.nan, np.float16), "labels": np.array([0, 1])}, "a logit is not a finite"),
    ],
)
def test_predictions_that_cannot_be_are_damaged(tmp_path: Path, tensors: dict[str, np.ndarray], reason: str):
    (tmp_path / "p").write_bytes(save(tensors))
    with pytest.raises(ValueError, match="is damaged") as caught:
        read_logits(tmp_path / "p")
    assert reason in str(caught.value)


def test_runs_on_other_images_are_left_out(runs: Runs):
    file = predicted(runs)
    folder = next(runs.folder.glob("*soft-*"))
    predict(folder, guesses(LABELS[:-10], 1, 0.2), LABELS[:-10])
    looked_at = found(file)
    assert looked_at.arms[1].n == 2
    (notice,) = looked_at.notices
    assert "is about other test images than those of the first arm" in notice.sentence


def test_without_a_reference_there_is_no_study(runs: Runs):
    file = predicted(runs)
    for folder in runs.folder.glob("*labels-*"):
        (folder / "predictions.safetensors").unlink()
    looked_at, notices = study(rows(gather([file]).groups[0]))
    assert looked_at is None
    assert len(notices) == 3


def test_correlation_is_over_means_of_arms(runs: Runs):
    points = [(0.90, 0.91), (0.91, 0.95), (0.95, 0.96), (0.97, 0.96)]
    for place, (agreement, accuracy) in enumerate(points):
        runs.run(f"a{place}", 1, accuracy, agreement=agreement)
    table = rows(gather([runs.sweep()]).groups[0])
    expected = np.corrcoef(np.array(points).T)[0, 1]
    assert correlation(table, lambda outcome: outcome.agreement) == pytest.approx(expected)
    assert correlation(table[:2], lambda outcome: outcome.agreement) is None


def test_arms_without_a_teacher_have_no_teacher_to_show(runs: Runs):
    for seed in range(2):
        predict(runs.run("labels", seed, 0.9, **NO_TEACHER), guesses(LABELS, seed, 0.2), LABELS)
    looked_at = found(runs.sweep())
    assert looked_at.teacher is None
    assert gallery(looked_at) == ()
    assert pictured(looked_at) == ()
