"""Teachers that are no single trained network: who they are, what they answer, and what they leave behind."""

import re
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from torch import Tensor, nn

from potstill import record
from potstill.checkpoint import read_weights
from potstill.choir import Choir, Even, Misplaced
from potstill.company import Company
from potstill.data import CropFlip, Resident, load
from potstill.display import Silent
from potstill.errors import UserError
from potstill.gate import gate
from potstill.inside import Average, Past
from potstill.machine import Machine
from potstill.methods import DKD, KD, SRRL, Hint, Labels, Logits, Mutual
from potstill.models import Network, ReusedHead, build
from potstill.optim import Optimizer
from potstill.reading import NEVER, Reading
from potstill.run import Run, result_of
from potstill.source import Live
from potstill.stage import Stage
from potstill.teacher import Given, Surroundings, Teacher
from potstill.teachers import EMA, Ensemble, OwnPast, Peers, Shuffled, Uniform, Untrained
from potstill.types import Batch


def opened(teacher: Teacher, resident: Resident) -> Any:
    return teacher.open(Surroundings(None, resident, Machine(), None))


def first(resident: Resident, count: int = 6) -> Batch:
    return resident.batch(resident.train, torch.arange(count))


def taught(teacher: Teacher, *terms: Any, epochs: int = 2, **fields: Any) -> Run:
    stages = [Stage(terms=terms or (Labels(), KD()), epochs=epochs, optimizer=tiny.SGD)]
    return tiny.run("taught", stages=stages, teacher=teacher, **fields)


def result(runs_dir: Path, run: Run) -> tuple[dict[str, Any], Path]:
    (folder,) = tiny.train_in(runs_dir, [run])
    found = record.Record(folder).result
    assert found is not None
    return found, folder


# Several that speak as one.


def test_an_ensemble_answers_the_weighted_mean_and_every_member_for_itself():
    resident = load(tiny.data())
    networks = [tiny.linear_teacher(0.05), tiny.linear_teacher(-0.1), build(tiny.convolutional()).eval()]
    members = tuple(Given(Network.given(network, tiny.CLASSES)) for network in networks)
    source = opened(Ensemble(members, weights=(1.0, 1.0, 2.0)), resident)
    assert isinstance(source, Choir)
    batch = first(resident)
    answer = source(batch, resident.train, ("2/stage1", "0/1:in"))
    alone = [network(batch.inputs) for network in networks]
    torch.testing.assert_close(answer.logits, (alone[0] + alone[1] + 2 * alone[2]) / 4)
    for member, logits in zip(answer.members, alone, strict=True):
        torch.testing.assert_close(member.logits, logits)
    assert list(answer.taps) == ["0/1:in", "2/stage1"]
    assert list(answer.members[2].taps) == ["stage1"]
    assert answer.taps["2/stage1"] is answer.members[2].taps["stage1"]
    torch.testing.assert_close(source.answers(resident.train)[batch.index], answer.logits)
    assert source.look(["2/stage1"]).taps["2/stage1"].shape == (2, *answer.taps["2/stage1"].shape[1:])


def test_members_of_unlike_architectures_teach_and_each_is_judged(runs_dir: Path):
    lines: list[str] = []

    class Said(Silent):
        def line(self, text: str) -> None:
            lines.append(text)

    ensemble = Ensemble((tiny.teacher(), tiny.teacher(nn.Sequential(nn.BatchNorm2d(3), tiny.linear_teacher()).eval())))
    (folder,) = tiny.train_in(runs_dir, [taught(ensemble)], display=Said())
    assert lines == [f"teacher{which}: 100.00% on 11 images" for which in (" 1 of 2", " 2 of 2", "")]
    found = record.Record(folder).result
    assert found is not None
    assert (found["teacher_accuracy"], found["member_accuracies"]) == (1.0, [1.0, 1.0])
    assert found["forwards_per_step"] == 1.0


def test_a_member_at_chance_is_refused_by_its_place():
    resident = load(tiny.data(train=400, validation=0))
    source = opened(Ensemble((tiny.teacher(), tiny.teacher(tiny.linear_teacher(scale=0.0)))), resident)
    with pytest.raises(UserError, match=r"^The teacher 2 of 2 is at chance \(25\.00% on 400 images"):
        gate(source, resident, None)


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Ensemble(()), "The ensemble has 0 teachers; give it at least two."),
        (lambda: Ensemble((tiny.teacher(),)), "The ensemble has 1 teachers; give it at least two."),
        (
            lambda: Ensemble((tiny.linear_teacher(), tiny.linear_teacher())),  # pyright: ignore[reportArgumentType]
            "The ensemble was given a Sequential; expected teachers: Given(Network.given(module, classes)) makes one "
            "of a module that you hold.",
        ),
        (
            lambda: Peers((tiny.linear_teacher(),)),  # pyright: ignore[reportArgumentType]
            "Peers were given a Sequential; expected networks: Network.given(module, classes) makes one of a module "
            "that you hold.",
        ),
        (
            lambda: Ensemble((tiny.teacher(), EMA())),
            "An ensemble takes outside teachers only: trained networks and what is made of them.",
        ),
        (
            lambda: Ensemble((tiny.teacher(), tiny.teacher()), (1.0,)),
            "The ensemble of 2 teachers has the weights (1.0,); expected one each, > 0.",
        ),
        (lambda: Peers(()), "Peers were given no other network; name at least one."),
        (lambda: EMA(decay=1.0), "The decay of the averaged student is 1; expected a share from 0 to below 1."),
        (
            lambda: taught(Peers((tiny.dropping(),)), student=tiny.dropping()),
            "Two peers of 'taught' are the same network with the same weights, and would stay so; give each its own, "
            "or name them so that they are drawn.",
        ),
        (
            lambda: Untrained(Network.given(tiny.linear_teacher(), tiny.CLASSES)),
            "Untrained was given 'Sequential' with weights that it learned; name a network without any.",
        ),
        (
            lambda: Untrained(Network("timm:resnet18", 4, options={"pretrained": True})),
            "Untrained was given 'timm:resnet18' with weights that it learned; name a network without any.",
        ),
        (
            lambda: Reading(mean=(0.5,)),
            "The teacher reads with mean=(0.5,) and std=(); expected one number per channel in both, deviations above "
            "0.",
        ),
        (
            lambda: Reading(classes=(0, 5), known=4),
            "The teacher's 4 outputs are named by classes=(0, 5); expected for each class of the data a place among "
            "them, or -1.",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(make: Any, sentence: str):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
        make()


def test_what_does_not_fit_is_refused_before_training(tmp_path: Path):
    hint = Hint(student=("stage1",), teacher=("stage1",))
    both = Ensemble((tiny.teacher(), tiny.teacher()))
    three = tiny.teacher(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 3)
    grey = replace(tiny.teacher(), reading=Reading(mean=(0.5,), std=(0.2,)))
    for teacher, terms, sentence in (
        (both, (hint,), "is an ensemble of 2, which has no tap 'stage1'; name a member by its place: '0/stage1' is"),
        (OwnPast(), (hint,), "The student's own past has no tap 'stage1', only logits; leave the terms out"),
        (Uniform(), (hint,), "The teacher is uniform and has no tap 'stage1'; leave the terms out that need it."),
        (Ensemble((tiny.teacher(), three)), (KD(),), "The teacher 2 of 2 answers 3 classes but the data has 4 classes"),
        (
            grey,
            (KD(),),
            "The teacher reads with mean=(0.5,), of 1 channels, but images of the data have 3; give it one",
        ),
        (Peers((Network("digits_conv", 3, 3),)), (KD(),), "The peer 1 answers 3 classes but the data has 4 classes"),
    ):
        with pytest.raises(UserError, match=re.escape(sentence)):
            tiny.train_in(tmp_path, [taught(teacher, *terms)])
    assert not list(tmp_path.iterdir())


# Controls.


def test_controls_teach_nothing_and_are_not_asked_to(runs_dir: Path):
    resident = load(tiny.data())
    batch = first(resident)
    right = tiny.linear_teacher()(batch.inputs)
    shuffled = opened(Shuffled(tiny.teacher()), resident)
    assert isinstance(shuffled, Misplaced)
    answer = shuffled(batch, resident.train, ("1:in",))
    torch.testing.assert_close(answer.logits, right.roll(1, 0))
    torch.testing.assert_close(answer.taps["1:in"], batch.inputs.flatten(1).roll(1, 0))
    uniform = opened(Uniform(), resident)
    assert isinstance(uniform, Even)
    assert not uniform(batch, resident.train).logits.any()
    drawn = opened(Untrained(tiny.convolutional(), seed=3), resident)
    assert isinstance(drawn, Live)
    again = opened(Untrained(tiny.convolutional(), seed=3), resident)
    assert torch.equal(drawn(batch, resident.train).logits, again(batch, resident.train).logits)
    for source in (shuffled, uniform, drawn):
        assert not source.answerable
        (line,) = gate(source, resident, at_least=0.99).lines
        assert line.endswith("on 11 images (a control)")
    for control in (Shuffled(tiny.teacher()), Uniform(), Untrained(tiny.convolutional())):
        assert result(runs_dir, taught(control))[0]["status"] == "finished"


# Teachers that see and name things their own way.


def test_a_teacher_reads_images_as_it_learned_to():
    resident = replace(load(tiny.data()), mean=torch.full((3, 1, 1), 0.4), std=torch.full((3, 1, 1), 0.5))
    batch = first(resident)
    reading = Reading(mean=(0.1, 0.2, 0.3), std=(0.9, 0.8, 0.7))
    source = Live(tiny.linear_teacher(), resident, Machine(), reading=reading)
    pixels = batch.inputs * 0.5 + 0.4
    own = (pixels - torch.tensor(reading.mean).view(3, 1, 1)) / torch.tensor(reading.std).view(3, 1, 1)
    torch.testing.assert_close(source(batch, resident.train).logits, tiny.linear_teacher()(own))


def test_a_teacher_sees_images_of_its_own_size():
    resident = load(tiny.data())
    batch = first(resident)
    large = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, tiny.CLASSES))
    source = Live(deepcopy(large), resident, Machine(), reading=Reading(size=16))
    assert source.look(()).logits.shape == (2, tiny.CLASSES)
    resized = nn.functional.interpolate(batch.inputs, (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(source(batch, resident.train).logits, large(resized))


def test_a_teacher_of_a_fixed_size_teaches_and_is_counted_at_that_size(runs_dir: Path):
    small = tiny.linear_teacher().get_parameter("1.weight").detach().view(tiny.CLASSES, 3, 8, 8)
    layer = nn.Linear(3 * 16 * 16, tiny.CLASSES, bias=False)
    layer.weight = nn.Parameter(nn.functional.interpolate(small, (16, 16), mode="bilinear").flatten(1) / 4)
    large = nn.Sequential(nn.Flatten(), layer)
    _, folder = result(runs_dir, taught(Given(Network.given(large, tiny.CLASSES), Reading(size=16))))
    summary = record.read_json(folder / "summary.json")
    assert summary is not None
    assert summary["teacher"]["mult_adds"] == 3 * 16 * 16 * tiny.CLASSES


def test_classes_are_named_by_a_map_and_unknown_ones_are_never_meant(runs_dir: Path):
    resident = load(tiny.data())
    batch = first(resident)
    five = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    reading = Reading(classes=(4, -1, 0, 2), known=5)
    source = Live(deepcopy(five), resident, Machine(), reading=reading)
    answer, own = source(batch, resident.train).logits, five(batch.inputs)
    torch.testing.assert_close(answer[:, [0, 2, 3]], own[:, [4, 0, 2]])
    assert (answer[:, 1] == NEVER).all()
    assert (answer.softmax(1)[:, 1] == 0).all()
    with pytest.raises(UserError, match=r"^The teacher's classes map 4 classes but the data has 3 classes; name one"):
        Reading(classes=(4, -1, 0, 2), known=5).outputs(3)
    # The prototypes' teacher with its outputs in another order teaches as the other one does.
    turned = tiny.linear_teacher()
    with torch.no_grad():
        turned[1].weight.copy_(turned[1].weight.roll(1, 0))  # pyright: ignore[reportIndexIssue]
    mapped = Given(Network.given(turned, tiny.CLASSES), Reading(classes=(1, 2, 3, 0), known=4))
    assert mapped.identity() != Given(mapped.given).identity()
    weights = [
        (result(runs_dir / name, taught(teacher))[1] / "student.safetensors").read_bytes()
        for name, teacher in (("mapped", mapped), ("plain", tiny.teacher()))
    ]
    assert weights[0] == weights[1]


def test_terms_that_cannot_do_with_other_classes_say_so():
    turned, without = Reading(classes=(1, 2, 3, 0), known=4), Reading(classes=(1, -1, 3, 0), known=4)

    def reads(reading: Reading) -> Given:
        return replace(tiny.teacher(), reading=reading)

    order = "cannot learn from a teacher that names other classes than the data; leave the term out, or give it another"
    lack = "cannot learn from a teacher that lacks some of the data's classes; leave the term out, or give it another"
    for reading, term, sentence in (
        (turned, SRRL(), f"The term 'srrl' of 'taught' {order} teacher."),
        (without, KD(standardize=True), f"The term 'kd' of 'taught' {lack} teacher."),
        (without, Logits(), f"The term 'logits' of 'taught' {lack} teacher."),
    ):
        for teacher in (reads(reading), Shuffled(reads(reading)), Ensemble((reads(reading), reads(reading)))):
            with pytest.raises(UserError, match=f"^{re.escape(sentence)}$"):
                taught(teacher, term)
    for reading, term in ((turned, KD(standardize=True)), (turned, Logits()), (without, KD()), (without, DKD())):
        assert taught(reads(reading), term).teacher == reads(reading)
    with pytest.raises(UserError, match=r"^The teachers of an ensemble lack different classes, so they have no mean; "):
        Ensemble((tiny.teacher(), reads(without)))
    with pytest.raises(
        UserError, match=r"takes over its teacher's classifier, which names other classes than the data"
    ):
        taught(reads(turned), Labels(), student=replace(tiny.convolutional(), reused=ReusedHead(student="stage2")))


# Teachers that come about with the student.


def test_the_average_follows_the_student_and_is_not_trained():
    torch.manual_seed(0)
    student = build(tiny.convolutional())
    average = Average(student, decay=0.9, classes=tiny.CLASSES)
    batch = first(load(tiny.data()))
    weights = [value for value in student.state_dict().values() if value.is_floating_point()]
    assert len(weights) > len(list(student.parameters())), "batch norm's statistics are among it"
    hand = [value.clone() for value in weights]
    for step in range(12):
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.add_(torch.randn_like(parameter))
        student.train()(batch.inputs)
        average.advance(student, batch, torch.zeros(6, 4), step)
        decay = min(1 - 1 / (step + 2), 0.9)
        hand = [decay * own + (1 - decay) * now for own, now in zip(hand, weights, strict=True)]
        assert decay == (0.9 if step >= 8 else 1 - 1 / (step + 2))
    averaged = average.network.state_dict()
    torch.testing.assert_close([value for value in averaged.values() if value.is_floating_point()], hand)
    counted = [name for name, value in averaged.items() if not value.is_floating_point()]
    assert counted
    assert all(torch.equal(averaged[name], student.state_dict()[name]) for name in counted)
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
    answer = average.answer(batch, ("stage1",))
    assert not answer.logits.requires_grad
    assert not average.network.training
    torch.testing.assert_close(answer.logits, average.network(batch.inputs))


def test_weights_that_two_layers_share_are_averaged_once():
    layer = nn.Linear(1, 1, bias=False)
    student = nn.Sequential(nn.Flatten(), layer, layer)
    average = Average(student, decay=0.5, classes=1)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.add_(8)
    batch = Batch(torch.zeros(1, 1, 1, 1), torch.zeros(1).long(), torch.zeros(1).long(), torch.zeros(1).long())
    average.advance(student, batch, torch.zeros(1, 1), 5)
    torch.testing.assert_close(next(average.network.parameters()), before + 4)


def test_the_past_is_the_label_and_then_what_was_said_last():
    past = Past(images=9, classes=3)
    batch = Batch(torch.zeros(3, 1, 1, 1), torch.tensor([2, 0, 1]), torch.tensor([7, 1, 4]), torch.zeros(3).long())
    assert past.answer(batch, ()).logits.softmax(1).tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0]]
    said = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.5, -0.5], [9e4, -9e4, 0.0]])
    past.advance(nn.Identity(), batch, said, 0)
    turned = Batch(*(part.flip(0) for part in batch))
    told = past.answer(turned, ()).logits
    torch.testing.assert_close(told[1:], said.flip(0)[1:])
    assert told[0].tolist() == [65504, -65504, 0], "as far as half precision goes"
    assert past.seen.sum() == 3


def test_the_past_forgets_companions():
    past = Past(images=9, classes=4, accompanied=True)
    shown = Batch(
        torch.zeros(4, 1, 1, 1), torch.tensor([1, 0, 1, 1]), torch.tensor([7, 1, 7, 3]), torch.zeros(4).long()
    )
    said = torch.arange(16.0).reshape(4, 4)
    past.advance(nn.Identity(), shown, said, 0)
    told = past.answer(shown, ()).logits
    torch.testing.assert_close(told[:3], said[[0, 1, 0]])
    assert told[3].softmax(0).tolist() == [0, 1, 0, 0], "not drawn yet"
    run = taught(OwnPast(), KD())
    accompanied = replace(run, data=replace(run.data, companion="classmate"))
    for spec, remembered in ((run, 4), (accompanied, 2)):
        objective = Company(spec, load(spec.data), None, Machine()).objective(spec.stages[0], nn.ModuleDict())
        objective.advance(shown, said, 0)
        assert isinstance(objective.inside, Past)
        assert int(objective.inside.seen.sum()) == len({*shown.index[:remembered].tolist()})


@pytest.mark.parametrize("teacher", [EMA(), OwnPast()], ids=["average", "past"])
def test_an_inside_teacher_is_not_in_what_ships_and_passes_are_counted(teacher: Teacher, runs_dir: Path):
    found, folder = result(runs_dir, taught(teacher))
    plain = build(tiny.convolutional()).state_dict()
    assert read_weights(folder / "student.safetensors").keys() == plain.keys()
    assert found["forwards_per_step"] == (2 if isinstance(teacher, EMA) else 1)
    assert found["teacher"] is None
    assert found["teacher_accuracy"] is None
    assert found["agreement"] is None
    assert found["peer"] is None


# Peers.


def test_of_peers_of_a_kind_the_best_on_validation_ships(runs_dir: Path):
    alone = tiny.run("alone", student=tiny.wider(), stages=[Stage(terms=(Labels(),), epochs=6, optimizer=tiny.SGD)])
    tiny.train_in(runs_dir, [alone])
    good = Network.given(result_of(alone).load(runs_dir), tiny.CLASSES)
    still = Stage(terms=(Labels(), KD()), epochs=1, optimizer=replace(tiny.SGD, learning_rate=1e-6))
    untrained = Network.given(build(tiny.wider()), tiny.CLASSES)
    run = tiny.run(
        "peers", student=untrained, stages=[still], teacher=Peers((tiny.wider(), good, tiny.convolutional()))
    )
    found, _ = result(runs_dir, run)
    assert found["peer"] == 2
    network = result_of(run).load(runs_dir).eval()
    resident = load(run.data)
    with torch.no_grad():
        right = network(resident.batch(resident.test, torch.arange(20)).inputs).argmax(1) == resident.test.labels
    assert right.float().mean().item() == pytest.approx(found["test_accuracy"])
    assert (found["forwards_per_step"], found["backwards_per_step"]) == (4, 4)


@pytest.mark.parametrize("update", ["together", "in turn"])
def test_peers_step_from_the_same_predictions_or_one_after_the_other(update: Any, tmp_path: Path):
    data = tiny.data(train=8, validation=0)
    torch.manual_seed(0)
    peers = [nn.Sequential(nn.Flatten(), nn.Linear(192, tiny.CLASSES, bias=False)) for _ in range(2)]
    first, second = (network.get_parameter("1.weight").detach().double() for network in peers)
    resident = load(data)
    inputs = resident.batch(resident.train, torch.arange(8)).inputs.flatten(1).double()

    def moved(own: Tensor, other: Tensor) -> Tensor:
        """A step of 0.1 along (p − q)·x, q a constant."""
        return own - 0.1 * ((inputs @ own.T).softmax(1) - (inputs @ other.T).softmax(1)).T @ inputs / 8

    for _ in range(2):
        ahead = moved(first, second)
        first, second = ahead, moved(second, ahead if update == "in turn" else first)
    given = [Network.given(network, tiny.CLASSES) for network in peers]
    stage = Stage(terms=(Mutual(),), epochs=2, optimizer=Optimizer(name="SGD", learning_rate=0.1))
    run = tiny.run("two", student=given[0], stages=[stage], teacher=Peers((given[1],), update), data=data)
    (folder,) = tiny.train_in(tmp_path, [run])
    trained = read_weights(folder / "student.safetensors")["1.weight"].double()
    torch.testing.assert_close(trained, first, rtol=1e-5, atol=1e-6)


def test_a_peer_of_another_kind_is_there_to_teach_however_good(runs_dir: Path):
    useless = Network("digits_conv", tiny.CLASSES, 3, options={"width": 1})
    found, folder = result(runs_dir, taught(Peers((tiny.wider(),)), student=useless, epochs=6))
    assert found["peer"] == 0
    assert read_weights(folder / "student.safetensors").keys() == build(useless).state_dict().keys()
    assert found["parameters"] == sum(parameter.numel() for parameter in build(useless).parameters())


def test_without_validation_images_the_student_ships(runs_dir: Path):
    found, folder = result(runs_dir, taught(Peers((tiny.wider(),)), data=tiny.data(validation=0)))
    assert found["peer"] == 0
    assert read_weights(folder / "student.safetensors").keys() == build(tiny.convolutional()).state_dict().keys()


@pytest.mark.parametrize("case", tiny.TAUGHT)
def test_company_changes_nothing_whoever_teaches(case: str, tmp_path: Path):
    (run,) = tiny.CASES[case]()
    beside = replace(run, name="beside", stages=(replace(run.stages[0], epochs=3),))
    (alone,) = tiny.train_in(tmp_path / "alone", [run])
    together, _ = tiny.train_in(tmp_path / "together", [run, beside])
    assert tiny.told(together) == tiny.told(alone)


def test_views_are_counted_for_who_ever_has_them(runs_dir: Path):
    (run,) = tiny.CASES["views"]()
    found, _ = result(runs_dir, run)
    assert found["views_per_step"] == 2
    # Eighteen views of each image, eight shown: asked of the teacher as they come, for they are kept.
    assert found["forwards_per_step"] == 4
    still = replace(run, data=replace(tiny.data(augment=CropFlip(padding=1)), companion="view", views=2))
    assert result(runs_dir, still)[0]["forwards_per_step"] == pytest.approx(2 * (1 + 2 / 8))
