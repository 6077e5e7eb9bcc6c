"""A student that takes over its teacher's classifier: what it is made of, what moves in it, and what ships."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
from torch import nn

from potstill import record
from potstill.architecture import size
from potstill.checkpoint import read_weights
from potstill.connect import Identity, Projector
from potstill.data import load
from potstill.display import Silent
from potstill.errors import UserError
from potstill.execution import execute, machine_for
from potstill.machine import BIG_ENOUGH_FOR_THREADS, Choices
from potstill.methods import KD, Labels, SimKD
from potstill.models import Network, ReusedHead, aliases, build
from potstill.optim import Optimizer
from potstill.reuse import reuse
from potstill.run import Run, fingerprint, result_of
from potstill.stage import Stage
from potstill.sweep import Arm, Sweep
from potstill.verbs.preview import describe

SHAPE = (3, 8, 8)
# All of it teaches, so that the small teacher is judged on what it has learned by heart.
DATA = tiny.data(validation=0.0)
TEACHER = tiny.run(
    "teacher",
    student=Network("digits_conv", tiny.CLASSES, 3, options={"width": 6}),
    stages=[tiny.labels_only(10, Optimizer(name="Adam", learning_rate=0.02))],
    teacher=None,
    data=DATA,
)
END = SimKD(student=("projected",), connector=Identity(), name="end")


def simkd(name: str = "simkd", *terms: SimKD | KD | Labels, head: ReusedHead | None = None) -> Run:
    """A student of 1,672 parameters under a teacher's classifier, learning with weight decay."""
    network = replace(tiny.convolutional(), reused=head or ReusedHead())
    stage = Stage(terms=terms or (END,), epochs=1, optimizer=tiny.SGD)
    return tiny.run(name, student=network, stages=[stage], teacher=result_of(TEACHER), data=DATA)


def plain(run: Run) -> nn.Module:
    """The student that it would be without."""
    return replace(run, student=replace(run.student, reused=None)).build(None).eval()


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the teacher has been trained."""
    folder = tmp_path_factory.mktemp("reuse")
    tiny.train_in(folder, [TEACHER])
    return folder


@pytest.fixture
def teacher(runs_dir: Path) -> nn.Module:
    return result_of(TEACHER).load(runs_dir).eval()


def images(count: int = 5) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def test_it_is_the_trunk_a_projector_a_mean_and_the_teachers_classifier(teacher: nn.Module):
    run = simkd()
    network, parts = run.build(teacher).eval(), plain(run)
    x = images()
    with torch.no_grad():
        for name in ("stage1", "pool1", "stage2", "stage3"):
            x = parts.get_submodule(name)(x)
        x = network.get_submodule("projector")(x)
        assert x.shape == (5, 24, 4, 4)
        last = teacher.get_submodule("fc")
        want = x.mean((2, 3)) @ last.get_parameter("weight").T + last.get_parameter("bias")
        torch.testing.assert_close(network(images()), want)
    assert aliases(network)["projected"] == "projector"
    assert aliases(network)["stage1.pre"] == "trunk.stage1.2:in"


def test_its_trunk_starts_as_the_plain_student_of_the_seed(teacher: nn.Module):
    run = simkd()
    trunk = run.build(teacher).get_submodule("trunk").state_dict()
    start, other = plain(run).state_dict(), plain(replace(run, seed=8)).state_dict()
    assert all(torch.equal(value, start[name]) for name, value in trunk.items())
    assert start.keys() - trunk.keys() == {"fc.weight", "fc.bias"}
    assert not torch.equal(start["stage1.0.weight"], other["stage1.0.weight"])
    again = run.build(teacher).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in run.build(teacher).state_dict().items())


def test_gradients_pass_the_classifier_and_leave_it(teacher: nn.Module):
    network = simkd().build(teacher)
    network(images()).square().sum().backward()
    reached = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
    assert {name for name, _ in network.named_parameters()} - reached == {"fc.weight", "fc.bias"}
    assert teacher.get_parameter("fc.weight").grad is None


@pytest.mark.parametrize("terms", [(END,), (replace(END, only_right=True, distance="kl"),), (Labels(), END, KD())])
def test_the_classifier_never_moves_and_ships(runs_dir: Path, teacher: nn.Module, terms: tuple[SimKD, ...]):
    few = replace(simkd("few", *terms), batch_size=28)  # Two steps.
    (folder,) = tiny.train_in(runs_dir, [few])
    start, end = few.build(teacher).state_dict(), read_weights(folder / "student.safetensors")
    assert start.keys() == end.keys()
    for name in ("fc.weight", "fc.bias"):
        assert torch.equal(end[name], teacher.state_dict()[name])
    for name in ("trunk.stage1.0.weight", "projector.0.weight", "projector.6.weight"):
        assert not torch.equal(end[name], start[name])
    result = record.read_json(folder / "result.json")
    assert result is not None
    assert (result["status"], result["steps"]) == ("finished", 2)


def test_what_ships_beyond_the_plain_student_is_counted(runs_dir: Path):
    run = simkd("counted", Labels())
    (folder,) = tiny.train_in(runs_dir, [run])
    result = record.read_json(folder / "result.json")
    assert result is not None
    shipped = sum(p.numel() for p in run.build(result_of(TEACHER).load(runs_dir)).parameters())
    # Half of 24 channels inside: three convolutions with batch norm; the teacher's classifier for 16 features' own.
    projector = 16 * 12 + 24 + 12 * 12 * 9 + 24 + 12 * 24 + 48
    assert result["parameters"] == shipped == 1_604 + projector + 25 * 4
    assert result["extra_parameters"] == projector + 25 * 4 - 17 * 4
    assert sum(p.numel() for p in plain(run).parameters()) + result["extra_parameters"] == shipped


def test_the_plan_counts_what_the_result_does(runs_dir: Path, tmp_path: Path):
    first = simkd("counted too", Labels())
    handed_down = replace(tiny.convolutional(), reused=ReusedHead(teacher="projected", projector=Projector(factor=3)))
    pupil = replace(first, name="pupil", student=handed_down, teacher=result_of(first))
    (folder,) = tiny.train_in(runs_dir, [first])
    result = record.read_json(folder / "result.json")
    assert result is not None
    sweep = Sweep(arms=(Arm(name="first", run=first), Arm(name="second", run=pupil)), seeds=(7,))
    told = describe("tiny", sweep, Choices(), tmp_path)  # Where nobody was trained.
    assert re.search(rf"^first +digits_conv +{result['parameters']:,} +{result['mult_adds']:,} ", told, re.MULTILINE)
    shipped = sum(p.numel() for p in pupil.build(result_of(first).load(runs_dir)).parameters())
    assert shipped != result["parameters"]
    assert re.search(rf"^second +digits_conv +{shipped:,} ", told, re.MULTILINE)
    assert not list(tmp_path.iterdir())


def test_its_machine_is_that_of_the_plain_student(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("potstill.machine.DEFAULT_THREADS", 4)
    wide = Network("digits_conv", tiny.CLASSES, 3, {"width": 24}, reused=ReusedHead(projector=Projector(factor=1)))
    run = replace(simkd(), student=wide)
    assert size(run)["mult_adds"] > BIG_ENOUGH_FOR_THREADS
    assert size(replace(run, student=replace(wide, reused=None)))["mult_adds"] < BIG_ENOUGH_FOR_THREADS
    assert machine_for(run, Choices(), tmp_path).threads == 1


def test_the_result_of_its_run_gives_the_very_predictions_and_can_teach(runs_dir: Path):
    first = simkd("first", Labels(), END)
    pupil = tiny.run(
        "pupil",
        student=replace(tiny.convolutional(), reused=ReusedHead(teacher="projected", projector=Projector(factor=3))),
        stages=[Stage(terms=(KD(), replace(END, teacher=("projected",))), epochs=1, optimizer=tiny.SGD)],
        teacher=result_of(replace(first, stages=(first.stages[0].scaled(12),))),
        data=DATA,
    )
    assert isinstance(pupil.teacher, type(result_of(first)))
    run = pupil.teacher.run
    conditions = tiny.conditions(runs_dir)
    assert execute([pupil], Choices(), conditions, Silent(), jobs=1) == []
    loaded = result_of(run).load(runs_dir).eval()
    folder = record.folder_of(runs_dir, run.name, fingerprint(run))
    told = safetensors.torch.load_file(folder / "predictions.safetensors")
    resident = load(DATA, "cpu")
    shown = resident.batch(resident.test, torch.arange(len(resident.test)), None).inputs
    with torch.no_grad():
        torch.testing.assert_close(loaded(shown).half(), told["logits"], rtol=1e-3, atol=1e-3)
    # Its pupil has the first teacher's classifier, handed down.
    theirs, last = loaded.get_parameter("fc.weight"), result_of(pupil).load(runs_dir).get_parameter("fc.weight")
    assert torch.equal(last, theirs)
    assert torch.equal(theirs, result_of(TEACHER).load(runs_dir).get_parameter("fc.weight"))


class _Power(Exception):
    """The current fails."""


class _Cut(Silent):
    """A display that ends the training after its third step."""

    def at(self, what: str, step: int) -> None:
        if step == 3:
            raise _Power


def test_it_goes_on_bitwise_where_it_was_cut(runs_dir: Path):
    run = simkd("cut", END, Labels(weight=0.1))
    with pytest.raises(_Power):
        tiny.train_in(runs_dir, [run], pause=0, display=_Cut())
    folder = record.folder_of(runs_dir, run.name, fingerprint(run))
    assert (folder / "checkpoint.safetensors").exists()
    tiny.train_in(runs_dir, [run])
    cut = tiny.told(folder)
    folder.rename(folder.with_name("away"))
    assert tiny.told(tiny.train_in(runs_dir, [run])[0]) == cut


def test_larger_maps_shrink_before_the_projector_and_smaller_ones_stay(teacher: nn.Module):
    run = simkd(head=ReusedHead(student="stage1"))
    network, x = run.build(teacher).eval(), images()
    with torch.no_grad():
        small = nn.functional.avg_pool2d(network.get_submodule("trunk")(x), 2)  # From 8×8 to 4×4.
        want = network.get_submodule("fc")(network.get_submodule("projector")(small).mean((2, 3)))
        torch.testing.assert_close(network(x), want)
    smaller = reuse(build(Network("resnet8", 4)), teacher, ReusedHead(), SHAPE)
    assert [name for name, _ in smaller.named_children()] == ["trunk", "projector", "pool", "flatten", "fc"]
    assert smaller.get_submodule("trunk")(images()).shape == (5, 64, 2, 2)


def test_a_network_is_cut_inside_a_sequence_of_its_own_too(teacher: nn.Module):
    student = build(Network("mobilenet_v2", 4)).eval()
    stem, blocks = student.get_submodule("conv1"), list(student.get_submodule("blocks").children())
    network = reuse(student, teacher, ReusedHead(student="stage3"), (3, 32, 32)).eval()
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network.get_submodule("trunk")(x), nn.Sequential(stem, *blocks[:5])(x))
    assert aliases(network)["stage2"] == "trunk.blocks.2"
    assert "stage4" not in aliases(network)


class Loose(nn.Module):
    """A network that runs its parts as it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(192, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1))


@pytest.mark.parametrize(
    ("student", "head", "sentence"),
    [
        (
            "digits_conv",
            ReusedHead(student="stage4"),
            "The student, a Chain, cannot be cut at 'stage4'; expected a network that runs its parts one after "
            "another, as those of the own zoo do, and one of them: 'stage1' or 'stage2' or 'stage3'.",
        ),
        (
            "digits_conv",
            ReusedHead(student="stage3.pre"),
            "The student, a Chain, cannot be cut at 'stage3.pre'; expected a network that runs its parts one after "
            "another, as those of the own zoo do, and one of them: 'stage1' or 'stage2' or 'stage3'.",
        ),
        (
            "loose",
            ReusedHead(student="fc"),
            "The student, a Loose, cannot be cut at 'fc'; expected a network that runs its parts one after another, "
            "as those of the own zoo do, and one of them: a part of it.",
        ),
        (
            "digits_conv",
            ReusedHead(student="flatten"),
            "The student's 'flatten' is of shape (N, 64); expected a map (N, C, H, W) or tokens (N, T, C): tap a layer "
            "of it.",
        ),
        (
            "digits_conv",
            ReusedHead(teacher="stage2"),
            "The teacher's classifier does not read the mean of its 'stage2', (N, 12, 4, 4); name the teacher's last "
            "map, from behind its last activation.",
        ),
        (
            "digits_conv",
            ReusedHead(teacher="stage3.pre"),
            "The teacher's classifier does not read the mean of its 'stage3.pre', (N, 24, 4, 4); name the teacher's "
            "last map, from behind its last activation.",
        ),
    ],
)
def test_what_cannot_be_taken_over_is_refused(teacher: nn.Module, student: str, head: ReusedHead, sentence: str):
    network = Loose() if student == "loose" else build(Network(student, 4, 3))
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        reuse(network, teacher, head, SHAPE)


def test_a_run_without_a_teacher_has_no_classifier_to_take_over():
    sentence = (
        r"^The student of 'alone' takes over its teacher's classifier, but the run has no teacher that is one "
        r"trained network; give it one\.$"
    )
    with pytest.raises(UserError, match=sentence):
        replace(simkd("alone", Labels()), teacher=None)
