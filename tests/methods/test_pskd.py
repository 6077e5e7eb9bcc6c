import math

import pytest
import safetensors.torch
import tiny
import torch

from methods import response
from potstill import record
from potstill.data import Draw, load
from potstill.errors import UserError
from potstill.methods.labels import label_loss
from potstill.methods.pskd import PSKD, pskd_loss
from potstill.optim import Optimizer
from potstill.stage import Stage
from potstill.teachers import OwnPast
from potstill.term import Progress


def derived(s, t, y, alpha):
    found = []
    for u, v, label in response.rows(s, t, y):
        past = response.softmax(v)
        target = [alpha * p + (1 - alpha) * (k == label) for k, p in enumerate(past)]
        found.append(response.crossed(target, response.softmax(u)))
    return response.mean(found)


def loss_at(alpha):
    return lambda s, t, y: pskd_loss(s, t.double().softmax(1), y, alpha=alpha)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_it_is_cross_entropy_against_the_mixture(alpha):
    for n, k in response.SIZES:
        s, t, y = response.logits(n, k), response.logits(n, k, seed=1), response.labels(n, k)
        want = derived(s, t, y, alpha)
        assert pskd_loss(s, t.softmax(1), y, alpha=alpha).item() == pytest.approx(want, rel=1e-9)
        half = pskd_loss(s.float(), t.softmax(1).half(), y, alpha=alpha)  # The table of the past is kept in fp16.
        assert half.item() == pytest.approx(want, rel=3e-3)


def test_by_hand():
    s, past = torch.zeros(1, 2), torch.tensor([[0.25, 0.75]])
    assert pskd_loss(s, past, torch.tensor([0]), alpha=0.4).item() == pytest.approx(math.log(2), rel=1e-6)


def test_without_a_past_it_is_the_labels_loss():
    s, t, y = response.logits(4, 5), response.logits(4, 5, seed=1), response.labels(4, 5)
    assert loss_at(0.0)(s, t, y).item() == pytest.approx(label_loss(s, y).item(), rel=1e-12)


def test_laws():
    response.assert_teaches_the_student_alone(loss_at(0.5))
    response.assert_blind_to_shifts(loss_at(0.5))
    response.assert_survives_extremes(loss_at(0.5))


@pytest.mark.parametrize(
    ("epoch", "epochs", "share"), [(0.0, 4, 0.25), (0.99, 4, 0.25), (2.5, 4, 0.75), (3.9, 4, 1.0), (4.0, 4, 1.0)]
)
def test_the_past_counts_more_from_epoch_to_epoch(epoch, epochs, share):
    s, t, y = response.logits(4, 5), response.logits(4, 5, seed=1), response.labels(4, 5)
    progress = Progress(7, epoch, epochs)
    assert response.of_term(PSKD(), s, t, y, progress) == pytest.approx(derived(s, t, y, 0.8 * share), rel=1e-9)
    found = response.of_term(PSKD(alpha=0.5), s, t, y, progress)
    assert found == pytest.approx(derived(s, t, y, 0.5 * share), rel=1e-9)


def by_hand(spec, alpha):
    """Plain steps of SGD: the loss of each epoch, and the weights."""
    resident = load(spec.data)
    draw = Draw(resident, spec.data, spec.seed, spec.batch_size)
    network = spec.build(None).train()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    onehot = torch.zeros(56, tiny.CLASSES)
    onehot[resident.train.index, resident.train.labels] = 1
    past, losses = onehot.clone(), []
    for epoch in range(2):
        share, total = alpha * (epoch + 1) / 2, 0.0
        for batch in draw.batches(epoch):
            logits = network(batch.inputs)
            target = share * past[batch.index] + (1 - share) * onehot[batch.index]
            loss = -(target * logits.log_softmax(1)).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            past[batch.index] = logits.detach().softmax(1)
            total += loss.item() * len(batch.labels)
        losses.append(total / 56)
    return losses, network.state_dict()


def test_over_two_epochs_it_learns_from_what_it_said_in_the_first(tmp_path):
    stage = Stage(terms=(PSKD(),), epochs=2, optimizer=Optimizer(name="SGD", learning_rate=0.05))
    spec = tiny.run("past", teacher=OwnPast(), data=tiny.data(validation=0.0), stages=[stage])
    (folder,) = tiny.train_in(tmp_path, [spec])
    losses, weights = by_hand(spec, 0.8)
    told = [line["train"]["loss"] for line in record.Record(folder).metrics]
    assert told[0] == pytest.approx(losses[0], rel=1e-5)  # The label alone.
    assert told[1] == pytest.approx(losses[1], rel=1e-3)  # The past is kept in fp16.
    found = safetensors.torch.load_file(folder / "student.safetensors")
    torch.testing.assert_close(found, dict(weights), rtol=1e-3, atol=3e-4)
    # Without a past it would have been another training.
    _, others = by_hand(spec, 0.0)
    assert max((found[name] - value).abs().max() for name, value in others.items()) > 0.01


def test_a_share_out_of_range_is_refused_with_a_sentence():
    with pytest.raises(UserError, match=r"^The alpha of 'pskd' is 1\.5; expected a number from 0 to 1\.$"):
        PSKD(alpha=1.5)
