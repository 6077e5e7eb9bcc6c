"""Classes drawn from what a teacher says: unbiased, close, and no more than was asked for."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from stores import BATCH, ROOM, shifted, soft
from torch import Tensor

from potstill import methods
from potstill.errors import UserError
from potstill.methods import KD, Labels
from potstill.methods.kd import kd_loss
from potstill.record import Record
from potstill.run import fingerprint
from potstill.store.sampling import Sample, uniform
from potstill.store.stock import stocks
from potstill.teachers import EMA, Ensemble, Sampled, Shuffled, source
from potstill.teachers.source import Live

POINTS = 4096


def answers(classes: int = 1500) -> Tensor:
    """Logits of three images: sure, unsure, and nearly even."""
    torch.manual_seed(1)
    return torch.randn(3, classes) * torch.tensor([[9.0], [3.0], [0.1]])


def every_u(sample: Sample, logits: Tensor) -> Tensor:
    """The shares p̂ at evenly spaced u, (POINTS, K): their mean is the expectation, up to 1/(POINTS · k)."""
    first = (torch.arange(POINTS, dtype=torch.float64) + 0.5) / POINTS
    drawn = sample.at(logits[None].expand(POINTS, -1), first)
    shares = torch.zeros(POINTS, len(logits), dtype=torch.float64)
    return shares.scatter_add_(1, drawn.long(), torch.full(drawn.shape, 1 / sample.draws, dtype=torch.float64))


@pytest.mark.parametrize(("draws", "temperature"), [(1, 1.0), (7, 4.0), (64, 4.0)])
@pytest.mark.parametrize("image", [0, 1, 2])
def test_the_share_of_draws_is_unbiased_and_close(image: int, draws: int, temperature: float):
    logits = answers(200)[image]
    p = (logits.double() / temperature).softmax(0)
    shares = every_u(Sample(draws, temperature), logits)
    assert (shares.mean(0) - p).abs().max() <= 1 / (POINTS * draws)
    assert ((shares - p).abs() < 1 / draws + 1e-12).all()
    assert torch.allclose(shares.sum(1), torch.ones(POINTS, dtype=torch.float64))


def test_the_gradient_of_soft_targets_is_unbiased_where_that_of_the_largest_classes_is_not():
    draws, temperature = 16, 4.0
    teacher, student = answers(200)[1], answers(200)[2].double() * 20

    def gradient(shares: Tensor) -> Tensor:
        """Of T² · KL(p̂ ‖ student) with respect to the student's logits, in the mean over u."""
        own = student[None].expand(len(shares), -1).clone().requires_grad_()
        told = temperature * shares.clamp_min(1e-300).log()
        kd_loss(own, told, temperature=temperature).backward()
        assert own.grad is not None
        return own.grad.sum(0)

    p = (teacher.double() / temperature).softmax(0)
    wanted = gradient(p[None])
    found = gradient(every_u(Sample(draws, temperature), teacher))
    assert (found - wanted).abs().max() < 2 * temperature / (POINTS * draws)
    largest = torch.zeros_like(p).scatter(0, p.topk(draws).indices, p.topk(draws).values)
    assert (gradient(largest[None] / largest.sum()) - wanted).abs().max() > 50 * (found - wanted).abs().max()


def test_logits_of_draws_say_their_shares_and_nothing_else():
    for classes, kind in ((200, torch.int16), (40_000, torch.int32)):
        logits, sample = answers(classes), Sample(64, 4.0)
        index, view = torch.arange(3), torch.tensor([0, 5, 161])
        drawn = sample.drawn(logits, index, view)
        assert (drawn.shape, drawn.dtype) == ((3, 64), kind)
        assert torch.equal(drawn, sample.drawn(logits, index, view))
        told = sample.logits(drawn, classes)
        wanted = torch.stack([row.long().bincount(minlength=classes) for row in drawn]) / 64
        torch.testing.assert_close((told / 4).softmax(1), wanted)
        assert told.dtype == torch.float32
        assert told.isfinite().all()
        assert (kd_loss(torch.zeros(3, classes), told, temperature=4.0)).isfinite()


def test_every_image_and_view_has_a_number_of_its_own():
    index, view = (each.ravel() for each in np.meshgrid(np.arange(400), np.arange(162)))
    numbers = uniform(index, view)
    assert len(set(numbers.tolist())) == len(numbers)
    # Ten equal parts, each within five standard deviations.
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    assert abs(counts - len(numbers) / 10).max() < 5 * (len(numbers) * 0.09) ** 0.5
    by_view = numbers.reshape(162, 400)
    assert abs(np.corrcoef(by_view[:-1].ravel(), by_view[1:].ravel())[0, 1]) < 5 / len(numbers) ** 0.5
    assert uniform(np.array([7]), np.array([3])).tolist() == [0.3563975226384597]


def drawn(**fields: object) -> Sampled:
    return Sampled(right=tiny.teacher(), **{"draws": 3, **fields})  # pyright: ignore


def test_a_second_sweep_over_drawn_classes_makes_no_pass_and_rows_hold_nothing_else(tmp_path: Path, made: list[Live]):
    for seed in (0, 1):
        (folder,) = tiny.train_in(tmp_path, [soft(teacher=drawn(), seed=seed, **BATCH)], store=ROOM)
    assert [(live.passes, live.checks) for live in made] == [(1 + 9 + 1, 0), (0, 3)]
    (stock,) = stocks(tmp_path / "store")
    assert {(held.split, held.kind) for held in stock.held} == {
        ("train", "3 draws at 4"),
        ("validation", ""),
        ("test", ""),
    }
    (rows,) = tmp_path.glob("store/*/train*.rows")
    assert json.loads(rows.read_bytes()[:4096])["dtype"] == "int16"
    assert rows.stat().st_size == 4096 + 3 * 1040 * (8 + 8)  # Three classes of two bytes in whole words, and a seal.
    # Beside them lie those of another number, and all logits.
    tiny.train_in(tmp_path, [soft(teacher=drawn(draws=4), **BATCH)], store=ROOM)
    tiny.train_in(tmp_path, [soft(**BATCH)], store=ROOM)
    assert [live.passes for live in made[2:]] == [9, 9]
    assert len({held.kind for held in stocks(tmp_path / "store")[0].held}) == 3
    result = Record(folder).result
    assert result is not None
    assert result["agreement"] is not None  # With the whole answers about the test images.


def test_many_draws_teach_what_the_whole_answer_does(tmp_path: Path):
    (whole,) = tiny.train_in(tmp_path, [soft(terms=(KD(),), **BATCH)])
    (few,) = tiny.train_in(tmp_path, [soft(terms=(KD(),), teacher=drawn(draws=1), **BATCH)])
    (many,) = tiny.train_in(tmp_path, [soft(terms=(KD(),), teacher=drawn(draws=20_000), **BATCH)])
    nll = [Record(folder).result["test_nll"] for folder in (whole, many, few)]  # pyright: ignore
    assert nll[0] == pytest.approx(nll[1], abs=1e-3)
    assert abs(nll[2] - nll[0]) > 1e-3


def test_what_is_drawn_is_part_of_the_run():
    teachers = [tiny.teacher(), drawn(), drawn(draws=4), drawn(temperature=2.0)]
    terms = [KD(), KD(), KD(), KD(temperature=2.0)]
    runs = [soft(teacher=teacher, terms=(term,)) for teacher, term in zip(teachers, terms, strict=True)]
    assert len({fingerprint(run) for run in runs}) == 4


@pytest.mark.parametrize(
    "term", [methods.DKD(), KD(temperature=2), KD(standardize=True), KD(only_right=True), tiny.Hint(), methods.DIST()]
)
@pytest.mark.parametrize("shuffled", [False, True])
def test_terms_that_would_be_biased_are_refused(term: methods.KD, shuffled: bool):
    teacher = Shuffled(drawn()) if shuffled else drawn()
    with pytest.raises(UserError) as told:
        soft(teacher=teacher, terms=(Labels(), term))
    assert str(told.value) == (
        f"The term {term.key!r} of 'soft' would be biased by a teacher that is Sampled; only KD(temperature=4) is not, "
        "without standardize and only_right: give the run the whole teacher, or that term."
    )
    soft(teacher=teacher, terms=(Labels(), KD(reduction="mean", warmup=3)))


def test_teachers_that_cannot_be_drawn_from_are_refused():
    both = Ensemble((tiny.teacher(), tiny.teacher(tiny.linear_teacher(0.06))))
    for right in (both, EMA(), drawn()):
        with pytest.raises(UserError, match="Classes are drawn from what one trained network says"):
            Sampled(right=right)
    with pytest.raises(
        UserError, match="A member of the ensemble is Sampled, but its mean is of whole answers; give it as it is"
    ):
        Ensemble((tiny.teacher(), drawn()))
    with pytest.raises(UserError, match="A sample of 0 classes was asked for; expected at least 1 draw"):
        drawn(draws=0)
    with pytest.raises(UserError, match="at the temperature -1; expected a number > 0"):
        drawn(temperature=-1.0)


def test_more_logits_than_are_kept_are_told_with_their_size_and_draws_are_kept(
    tmp_path: Path, made: list[Live], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(source, "REMEMBERED", 1040 * 4 * 4 - 1)
    lines = tiny.Lines()
    tiny.train_in(tmp_path, [soft(**BATCH)], store=ROOM, display=lines)
    assert [line for line in lines.said if "take" in line] == [
        "The teacher's answers about 1,040 train images take 16.2 KiB a view, more than the 16.2 KiB that is kept in "
        "memory; they are not stored, and it is asked at every step; give the run Sampled(right=teacher, "
        "draws=64) to keep drawn classes."
    ]
    lines.said.clear()
    for seed in (0, 1):
        run = soft(teacher=drawn(), data=replace(shifted(), views=2), seed=seed, **BATCH)
        tiny.train_in(tmp_path, [run], store=ROOM, display=lines)
    assert not any("take" in line for line in lines.said)
    assert [live.passes for live in made] == [1 + 24 + 1, 2 * 3, 0]
