"""What tests of terms for several networks share: what each said, and two tiny ones that learn together."""

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import tiny
import torch
from torch import Tensor, nn

from methods import response
from methods.maps import plan
from potstill import record
from potstill.company import Company
from potstill.data import load
from potstill.errors import UserError
from potstill.machine import Machine
from potstill.methods import Labels
from potstill.models import build
from potstill.objective import Objective
from potstill.run import Run
from potstill.stage import Stage
from potstill.teachers import Peers
from potstill.term import Progress, Term
from potstill.types import Batch, Trace

EPOCHS = 100


def spoken(logits: Tensor) -> Trace:
    """The teacher's side, of logits (M, N, K): each member's."""
    return Trace(logits.mean(0), {}, tuple(Trace(each, {}) for each in logits))


def run(*terms: Term, epochs: int = EPOCHS) -> Run:
    """Two networks of one architecture."""
    stage = Stage(terms=terms, epochs=epochs, optimizer=tiny.SGD)
    return tiny.run(teacher=Peers((tiny.convolutional(),)), data=tiny.data(validation=0.0), stages=[stage])


def objective_of(term: Term) -> tuple[Objective, Batch]:
    """What these two minimise, in float64, and a batch of 8."""
    spec = run(term)
    resident = load(spec.data)
    objective = Company(spec, resident, None, Machine()).objective(spec.stages[0], nn.ModuleDict()).double().train()
    shown = resident.batch(resident.train, torch.arange(8))
    return objective, shown._replace(inputs=shown.inputs.double())


def assert_gradients(term: Term, by_hand: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    """The gradient of both is what the slopes by their own logits say: of (own, the other's, one-hot labels)."""
    objective, shown = objective_of(term)
    networks = [objective.student, *objective.peers]
    logits = [network(shown.inputs) for network in networks]
    assert (logits[0] - logits[1]).abs().max() > 0.1  # They do not begin alike.
    onehot = nn.functional.one_hot(shown.labels, tiny.CLASSES).double()
    objective(shown, None, Progress(0, 0.0, EPOCHS))[0][term.key].backward()
    for network, own, other in zip(networks, logits, logits[::-1], strict=True):
        slopes = by_hand(own.detach(), other.detach(), onehot)
        wanted = torch.autograd.grad(own, list(network.parameters()), slopes)
        for parameter, want in zip(network.parameters(), wanted, strict=True):
            torch.testing.assert_close(parameter.grad, want, rtol=1e-6, atol=1e-10)


def assert_one_ships(term: Term, runs_dir: Path) -> None:
    """Beside the labels it trains both, and what is left is one plain student."""
    spec = run(Labels(), term, epochs=1)
    (folder,) = tiny.train_in(runs_dir, [spec])
    found = record.Record(folder)
    assert found.status == "finished"
    assert set(found.metrics[0]["train"]["terms"]) == {"labels", term.key}
    weights = safetensors.torch.load_file(folder / "student.safetensors")
    start = spec.build(None).state_dict()
    assert weights.keys() == build(spec.student).state_dict().keys() == start.keys()
    assert any(not torch.equal(value, start[name]) for name, value in weights.items())


def assert_refuses_one(term: Term) -> None:
    """A teacher without members is refused with a sentence, and so is none."""
    own = Trace(response.logits(2, 3), {"pooled": response.logits(2, 5)})
    with pytest.raises(UserError) as refusal:
        term.build(own, Trace(response.logits(2, 3), {}), plan())
    assert str(refusal.value) == (
        f"The term {term.key!r} reads what each of several networks says, but the run's teacher speaks for itself "
        "alone; give the run teacher=Peers(...), or an Ensemble(...)."
    )
    with pytest.raises(UserError, match=rf"^The term '{term.key}' compares with a teacher, but the run names none; "):
        term.build(own, None, plan())
