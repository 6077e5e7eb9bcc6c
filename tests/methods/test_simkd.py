import math

import pytest
import torch
from torch import nn

from methods.maps import START, assert_sound, batch, built, maps, trace, value
from potstill.connect import Identity
from potstill.errors import UserError
from potstill.methods.simkd import SimKD, simkd_loss
from potstill.objective import loss_of


def softmax(row):
    total = math.fsum(math.exp(v) for v in row)
    return [math.exp(v) / total for v in row]


def derived(s, t, distance="l2", weight=None):
    N, C, H, W = s.shape
    total = 0.0
    for n in range(N):
        share = 1.0 if weight is None else float(weight[n])
        for y in range(H):
            for x in range(W):
                a, b = s[n, :, y, x].tolist(), t[n, :, y, x].tolist()
                if distance == "l2":
                    total += share * sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / C
                else:
                    pairs = zip(softmax(a), softmax(b), strict=True)
                    total += share * sum(q * (math.log(q) - math.log(p)) for p, q in pairs)
    return total / (N * H * W)


@pytest.mark.parametrize("weight", [None, torch.tensor([True, False, True]), torch.tensor([0.5, 2.0, 0.0]).double()])
@pytest.mark.parametrize("distance", ["l2", "kl"])
@pytest.mark.parametrize("shape", [(3, 1, 1, 1), (3, 4, 2, 3)])
def test_the_loss_is_a_mean_over_images_and_positions(shape, distance, weight):
    s, t = maps(*shape), maps(*shape, seed=1)
    want = derived(s, t, distance, weight)
    assert simkd_loss(s, t, distance=distance, weight=weight).item() == pytest.approx(want, rel=1e-8, abs=1e-12)
    single = simkd_loss(s.float(), t.float(), distance=distance, weight=weight).item()
    assert single == pytest.approx(want, rel=1e-4, abs=1e-6)


def test_by_hand():
    s, t = torch.zeros(1, 2, 1, 1), torch.tensor([math.log(3), 0.0]).view(1, 2, 1, 1)
    assert simkd_loss(s, t).item() == pytest.approx(math.log(3) ** 2 / 2, rel=1e-6)
    assert simkd_loss(s, t, distance="kl").item() == pytest.approx(
        0.75 * math.log(1.5) + 0.25 * math.log(0.5), rel=1e-5
    )


def test_it_is_sound():
    assert_sound(simkd_loss, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])
    assert_sound(lambda s, t: simkd_loss(s, t, distance="kl"), [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def test_the_term_projects_and_leaves_out_what_the_teacher_gets_wrong():
    s, t = trace(stage3=maps(4, 3, 4, 4)), trace(stage3=maps(4, 6, 2, 2, seed=1))
    learned = built(SimKD(), s, t)
    assert isinstance(learned, nn.ModuleList)
    projected = nn.functional.adaptive_avg_pool2d(learned[0](s.taps["stage3"]), 2)
    assert value(SimKD(), s, t, learned) == pytest.approx(derived(projected, t.taps["stage3"]), rel=1e-6)
    right = t.logits.argmax(1) == torch.arange(4) % 3
    assert 0 < right.sum() < 4
    # The projector's batch norm sees the right images alone while it learns, so that they are compared as it judges.
    found = loss_of(SimKD(distance="kl", only_right=True), batch(4), s, t, learned.eval(), START)
    projected = nn.functional.adaptive_avg_pool2d(learned[0](s.taps["stage3"]), 2)
    assert found.item() == pytest.approx(derived(projected, t.taps["stage3"], "kl", right), rel=1e-6)


def test_a_student_that_carries_its_projector_needs_none():
    s, t = trace(projected=maps(4, 6, 2, 2)), trace(stage3=maps(4, 6, 2, 2, seed=1))
    term = SimKD(student=("projected",), connector=Identity())
    learned = built(term, s, t)
    assert learned is not None
    assert not list(learned.parameters())
    assert value(term, s, t, learned) == pytest.approx(derived(s.taps["projected"], t.taps["stage3"]), rel=1e-9)


def test_unlike_shapes_are_refused():
    with pytest.raises(UserError, match=r"expected equal shapes"):
        simkd_loss(maps(2, 3, 4, 4), maps(2, 3, 2, 2))
