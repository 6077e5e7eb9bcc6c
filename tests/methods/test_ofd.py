import math

import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.ofd import OFD, margins, ofd_loss
from potstill.models import Network, build


def derived(s, t, margin):
    total = 0.0
    for n in range(len(s)):
        for c in range(s.shape[1]):
            for a, b in zip(s[n, c].flatten().tolist(), t[n, c].flatten().tolist(), strict=True):
                target = max(b, margin[c].item())
                total += 0.0 if a <= target <= 0 else (target - a) ** 2
    return total / len(s)


@pytest.mark.parametrize(("n", "c", "h", "w"), [(1, 1, 3, 3), (2, 3, 4, 2), (3, 5, 2, 2)])
def test_the_loss_leaves_out_what_is_negative_enough(n, c, h, w):
    s, t, margin = maps(n, c, h, w), maps(n, c, h, w, seed=1), -maps(c, seed=2).abs()
    want = derived(s, t, margin)
    assert ofd_loss(s, t, margin).item() == pytest.approx(want, rel=1e-9)
    assert ofd_loss(s.float(), t.float(), margin.float()).item() == pytest.approx(want, rel=1e-4)


def test_by_hand():
    s, t = (torch.tensor(row).view(1, 1, 1, 4) for row in ([-3.0, -0.5, 1.0, 0.0], [-1.0, -9.0, 3.0, -2.0]))
    # Margin −2: below the target, above it by 1.5, 2 too small, 2 too large.
    assert ofd_loss(s, t, torch.tensor([-2.0])).item() == pytest.approx(1.5**2 + 4 + 4)


def test_the_margin_is_the_mean_of_the_negative_half():
    mean, deviation = torch.tensor([0.0, 1.0, -2.0, 5.0, 0.3]), torch.tensor([1.0, 2.0, 0.5, 1.0, 0.0])
    found = margins(mean, deviation).tolist()
    assert found[0] == pytest.approx(-math.sqrt(2 / math.pi), rel=1e-6)
    for place in (1, 2):
        sample = mean[place] + deviation[place] * maps(400_000, seed=place)
        assert found[place] == pytest.approx(sample[sample < 0].mean().item(), rel=0.01)
    assert found[3] == -3  # Hardly ever negative.
    assert found[4] == 0  # γ = 0: the output is 0.3 always.
    assert margins(torch.tensor([-1.5]), torch.tensor([0.0])).item() == -1.5
    # The sign of γ does not count.
    assert torch.equal(margins(mean, deviation), margins(mean, -deviation))


def test_it_is_sound():
    margin = torch.tensor([-0.5, -1.0, -2.0])
    assert_sound(lambda s, t: ofd_loss(s, t, margin), [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def test_what_does_not_fit_is_refused():
    with pytest.raises(UserError, match=r"^There are 2 margins for 3 channels; expected one each\.$"):
        ofd_loss(maps(2, 3, 2, 2), maps(2, 3, 2, 2), -torch.ones(2, dtype=torch.float64))


def test_the_term_takes_its_margins_from_the_teacher_and_halves_lower_layers():
    teacher = build(Network("resnet8", 3))
    norm = teacher.get_submodule("layer2.0.bn2")
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.uniform_(norm.weight, 0.5, 2)
    nn.init.uniform_(norm.bias, -1, 1)
    taps = ("stage1.pre", "stage2.pre")
    s = trace(stage1_pre=maps(4, 2, 8, 8), stage2_pre=maps(4, 3, 4, 4, seed=1))
    t = trace(stage1_pre=maps(4, 16, 8, 8, seed=2), stage2_pre=maps(4, 32, 2, 2, seed=3))
    term = OFD(student=taps, teacher=taps)
    learned = built(term, s, t, network=teacher)
    assert isinstance(learned, nn.ModuleList)
    torch.testing.assert_close(learned[1].margin, margins(norm.bias, norm.weight).double())
    assert not [name for name in learned.state_dict() if "margin" in name]
    low, high = (part(s.taps[tap]) for part, tap in zip(learned, taps, strict=True))
    pooled = nn.functional.adaptive_avg_pool2d(high, 2)
    want = derived(low, t.taps[taps[0]], learned[0].margin) / 2
    want += derived(pooled, t.taps[taps[1]], learned[1].margin)
    assert value(term, s, t, learned) == pytest.approx(want, rel=1e-6)


def test_a_teacher_without_a_batch_norm_there_is_refused():
    teacher = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU())
    s, t = trace(a=maps(4, 2, 4, 4)), trace(**{"1:in": maps(4, 16, 4, 4)})
    sentence = (
        r"No batch norm of 16 channels stands before the teacher's '1:in'; tap the input of a ReLU behind one, as "
        r"'stage1\.pre' is in residual networks, or take another method\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(OFD(student=("a",), teacher=("1:in",)), s, t, network=teacher)
