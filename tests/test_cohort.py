"""Company changes nothing: what a student of a cohort becomes, what it is shown, and what happens when one diverges."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import tiny
import torch
from torch import Tensor, nn

from potstill import record
from potstill.data import CropFlip, Data
from potstill.display import Silent
from potstill.errors import UserError
from potstill.methods import KD, Labels
from potstill.models import Network
from potstill.optim import Optimizer
from potstill.run import Run
from potstill.stage import Stage
from potstill.term import Knowledge, Progress, Term
from potstill.types import Batch, Trace


@dataclass(frozen=True, kw_only=True)
class Watch(Term):
    """Cross-entropy that keeps what it was shown; `seen` is no part of the specification."""

    seen: list[Batch] = field(default_factory=list[Batch], compare=False)

    knowledge: ClassVar[Knowledge] = "label"
    citation: ClassVar[str] = "for the tests"

    @property
    def needs_teacher(self) -> bool:
        return False

    def loss(
        self, batch: Batch, student: Trace, teacher: Trace | None, learned: nn.Module | None, progress: Progress
    ) -> Tensor:
        if torch.is_grad_enabled():
            self.seen.append(batch)
        return nn.functional.cross_entropy(student.logits, batch.labels)


def alone_and_together(runs: Sequence[Run], tmp_path: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What each run left when trained by itself, and as a member."""
    alone = [tiny.told(tiny.train_in(tmp_path / "alone", [run])[0]) for run in runs]
    together = [tiny.told(folder) for folder in tiny.train_in(tmp_path / "together", runs)]
    return list(zip(alone, together, strict=True))


def test_a_student_of_a_cohort_is_bitwise_the_student_trained_alone(tmp_path: Path):
    runs = tiny.unlike()
    pairs = alone_and_together(runs, tmp_path)
    for alone, together in pairs:
        assert together == alone
    # What the members are there to differ in.
    assert [len(alone["metrics"]) for alone, _ in pairs] == [4, 4, 1, 3, 5]
    assert len({alone["weights"]["student.safetensors"] for alone, _ in pairs}) == len(runs)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("augment", [None, CropFlip(padding=1)], ids=["one view", "augmented"])
def test_a_companion_who_taps_the_teacher_changes_nothing(precision: str, augment: CropFlip | None, tmp_path: Path):
    torch.manual_seed(1)
    # Convolutions answer other bits for another size of batch, so a look-up and a live pass can be told apart.
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(8 * 36, 64), nn.ReLU(), nn.Linear(64, tiny.CLASSES))
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    x, y = (torch.from_numpy(part) for part in tiny.images(200, 1))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    shared: dict[str, Any] = {
        "teacher": tiny.teacher(network),
        "data": tiny.data(augment=augment),
        "precision": precision,
    }
    soft = tiny.run("soft", stages=[Stage(terms=(KD(),), epochs=2, optimizer=tiny.SGD)], **shared)
    terms = (tiny.Hint(teacher_tap="1"), KD())
    hint = tiny.run("hint", stages=[Stage(terms=terms, epochs=1, optimizer=tiny.SGD)], **shared)
    for alone, together in alone_and_together([soft, hint], tmp_path):
        assert together == alone


def watched(tmp_path: Path, seed: int, data: Data, *, stages: Sequence[Stage] = ()) -> list[Batch]:
    """What a run was shown, step by step."""
    watch = Watch()
    own = Stage(terms=(watch,), epochs=3, optimizer=tiny.SGD)
    chosen = [replace(stage, terms=(watch,)) for stage in stages] or [own]
    tiny.train_in(tmp_path / "watched", [tiny.run(seed=seed, data=data, stages=chosen)])
    return watch.seen


def shown(batches: Sequence[Batch]) -> list[list[tuple[int, int]]]:
    """(index, view) of every image of every batch."""
    return [list(zip(batch.index.tolist(), batch.view.tolist(), strict=True)) for batch in batches]


def views(batches: Sequence[Batch]) -> list[dict[int, int]]:
    """The view of each image, epoch by epoch."""
    pairs = shown(batches)
    epochs = [pairs[start : start + tiny.STEPS] for start in range(0, len(pairs), tiny.STEPS)]
    return [dict(pair for batch in epoch for pair in batch) for epoch in epochs]


def test_two_arms_with_one_seed_see_the_same_batches_in_order_and_views(tmp_path: Path):
    data = tiny.data(augment=CropFlip(padding=2))
    arms = [Watch(), Watch(name="other"), Watch(name="third")]
    stages = [
        [Stage(terms=(arms[0],), epochs=3, optimizer=tiny.SGD)],
        [Stage(terms=(arms[1], KD()), epochs=epochs, optimizer=tiny.OPTIMIZERS["Adam"]) for epochs in (1, 2)],
        [Stage(terms=(arms[2],), epochs=1, optimizer=tiny.SGD)],
    ]
    runs = [tiny.run(f"arm {i}", data=data, stages=own) for i, own in enumerate(stages)]
    tiny.train_in(tmp_path, [runs[0]])
    tiny.train_in(tmp_path, runs[1:])
    first, second, third = (arm.seen for arm in arms)
    assert [len(batch.labels) for batch in first] == [8, 8, 8, 8, 8, 5] * 3
    assert shown(first) == shown(second)
    assert shown(first)[: tiny.STEPS] == shown(third)
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.inputs, b.inputs)
        assert torch.equal(a.labels, b.labels)


def test_another_seed_is_another_order_through_the_same_views(tmp_path: Path):
    data = tiny.data(augment=CropFlip(padding=2))
    first, second = (watched(tmp_path, seed, data) for seed in (1, 2))
    assert [[index for index, _ in batch] for batch in shown(first)] != [
        [index for index, _ in batch] for batch in shown(second)
    ]
    assert views(first) == views(second)
    # And the views of one image change from epoch to epoch.
    assert all(len({epoch[index] for epoch in views(first)}) == 3 for index in views(first)[0])


def test_with_views_per_seed_another_seed_has_other_views(tmp_path: Path):
    data = tiny.data(augment=CropFlip(padding=2), sharing="per-seed")
    first, again, second = (watched(tmp_path / str(i), seed, data) for i, seed in enumerate((1, 1, 2)))
    assert shown(first) == shown(again)
    assert views(first) != views(second)


def test_without_augmentation_the_only_view_is_the_image_itself(tmp_path: Path):
    data = tiny.data()
    batches = watched(tmp_path, 1, data)
    assert data.arrays is not None
    for batch in batches:
        assert batch.view.tolist() == [0] * len(batch.labels)
        assert torch.equal(batch.inputs, data.arrays.x_train[batch.index])


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_member_that_diverges_leaves_and_the_others_end_as_alone(epochs: int, tmp_path: Path):
    hot = Optimizer(name="SGD", learning_rate=1e30)
    stages = [Stage(terms=(Labels(), KD()), epochs=epochs, optimizer=hot)]
    wild = tiny.run("wild", student=Network("digits_conv", tiny.CLASSES, 3, options={"width": 5}), stages=stages)
    calm = [run for run in tiny.unlike() if run.name in ("two stages", "drops")]
    pairs = alone_and_together([calm[0], wild, calm[1]], tmp_path)
    for alone, together in pairs:
        assert together == alone
    wild_result = pairs[1][1]["result"]
    assert wild_result["status"] == "diverged"
    assert wild_result["reason"] == "a loss was no longer a finite number in epoch 1; try a lower learning rate."
    assert wild_result["test_accuracy"] is None
    assert pairs[1][1]["weights"] == {}
    assert [pair[1]["result"]["status"] for pair in pairs] == ["finished", "diverged", "finished"]


def test_a_last_step_that_leaves_no_finite_answers_is_a_divergence_too(tmp_path: Path):
    # Labels alone, one step, no validation: the loss is taken before the step that spoils the weights.
    stages = [tiny.labels_only(1, Optimizer(name="SGD", learning_rate=1e38))]
    wild = tiny.run("wild", data=tiny.data(train=16, validation=0), batch_size=16, stages=stages)
    calm = replace(wild, name="calm", stages=(tiny.labels_only(1),))
    folders = tiny.train_in(tmp_path, [wild, calm])
    results = [record.Record(folder).result for folder in folders]
    assert results[0] is not None
    assert results[1] is not None
    assert [result["status"] for result in results if result] == ["diverged", "finished"]
    assert results[0]["reason"] == (
        "the logits of the test images were no longer finite numbers after the last epoch; try a lower learning rate."
    )
    assert not (folders[0] / "student.safetensors").exists()


def test_nothing_that_is_not_finite_is_ever_checkpointed(tmp_path: Path):
    wild = tiny.run("wild", stages=[tiny.labels_only(1, Optimizer(name="SGD", learning_rate=1e30))])
    steps: list[int] = []

    class Look(Silent):
        def at(self, what: str, step: int) -> None:
            from potstill import checkpoint

            (folder,) = tmp_path.iterdir()
            loaded = checkpoint.read(folder / "checkpoint.safetensors")
            assert loaded is not None
            tensors, values = loaded
            assert all(tensor.isfinite().all() for tensor in tensors.values())
            steps.append(values["at"]["step"])

    tiny.train_in(tmp_path, [wild], pause=0, display=Look())
    # Written before each step as long as all was well, and left alone from then on.
    assert steps[0] == 0
    assert steps == sorted(steps)
    assert steps[-1] < tiny.STEPS - 1


@pytest.mark.parametrize(
    ("stage", "words"),
    [
        (
            {"terms": (tiny.Hint(tap="stage9"),)},
            "tap 'stage9', but Chain has no module 'stage9': did you mean 'stage3' or 'stage2'?",
        ),
        ({"train": ("student.stag1*",)}, "no parameters match 'student.stag1*': did you mean 'student.stage1'"),
        (
            {"optimizer": Optimizer(name="SGD", learning_rate=0.1, options={"nesterov": True})},
            "torch.optim.SGD refused its options",
        ),
    ],
)
def test_what_does_not_fit_in_a_later_stage_is_told_before_anything_is_trained(
    stage: dict[str, Any], words: str, tmp_path: Path
):
    bad = tiny.run("bad", stages=[tiny.labels_only(1), replace(tiny.labels_only(1), **stage)])
    with pytest.raises(UserError) as told:
        tiny.train_in(tmp_path, [tiny.run("good"), bad])
    assert str(told.value).startswith(words)
    # Not even the good member has begun.
    assert not list(tmp_path.glob("*/*.json*"))


def test_a_training_split_of_one_image_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"^The training split of 'tiny' has fewer than 2 images; give it more\.$"):
        tiny.train_in(tmp_path, [tiny.run(data=tiny.data(train=4, validation=0.75))])
    assert not list(tmp_path.glob("*/*.json*"))


def test_a_finished_cohort_does_nothing(tmp_path: Path):
    runs = [tiny.run("one", stages=[tiny.labels_only(1)]), tiny.run("two", stages=[tiny.labels_only(2)])]
    folders = tiny.train_in(tmp_path, runs)
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()}
    assert tiny.train_in(tmp_path, runs) == folders
    assert {path: path.stat().st_mtime_ns for folder in folders for path in folder.iterdir()} == before


def test_what_another_process_finished_meanwhile_is_left_as_it_is(tmp_path: Path):
    first, second = (
        tiny.run(name, stages=[tiny.labels_only(epochs)]) for name, epochs in (("first", 1), ("second", 2))
    )
    files: dict[Path, bytes] = {}

    class Meanwhile(tiny.Lines):
        """The accuracy of the teacher is told when it is decided what is to be trained, and nothing is held yet."""

        def line(self, text: str) -> None:
            if not files:
                (folder,) = tiny.train_in(tmp_path, [first])
                files.update((path, path.read_bytes()) for path in folder.iterdir())

    folders = tiny.train_in(tmp_path, [first, second], display=Meanwhile())
    assert all((folder / "result.json").exists() for folder in folders)
    assert {path: path.read_bytes() for path in folders[0].iterdir()} == files
