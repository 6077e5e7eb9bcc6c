import math

import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.catkd import CATKD, catkd_loss, class_maps
from potstill.models import Network, aliases, build
from potstill.places import classifier
from potstill.taps import trace as tracer


def pooled(x, resolution):
    """Means over equal cells of one (H, W) map."""
    height, width = x.shape[0] // resolution, x.shape[1] // resolution
    cells = [
        x[i * height : (i + 1) * height, j * width : (j + 1) * width].flatten().tolist()
        for i in range(resolution)
        for j in range(resolution)
    ]
    return [math.fsum(cell) / len(cell) for cell in cells]


def derived(s, t, resolution=2, normalise=False):
    squares: list[float] = []
    for one, other in zip(s.flatten(0, 1), t.flatten(0, 1), strict=True):
        a, b = pooled(one, resolution), pooled(other, resolution)
        if normalise:
            a, b = ([v / math.sqrt(math.fsum(u * u for u in row)) for v in row] for row in (a, b))
        squares += [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
    return math.fsum(squares) / len(squares)


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize(("size", "other", "resolution"), [(4, 4, 2), (8, 4, 2), (4, 8, 4), (4, 4, 1)])
def test_the_loss_is_of_pooled_class_maps(size, other, resolution, normalise):
    s, t = maps(2, 3, size, size), maps(2, 3, other, other, seed=1)
    want = derived(s, t, resolution, normalise)
    options = {"resolution": resolution, "normalise": normalise}
    assert catkd_loss(s, t, **options).item() == pytest.approx(want, rel=1e-9)
    assert catkd_loss(s.float(), t.float(), **options).item() == pytest.approx(want, rel=1e-4)
    assert catkd_loss(s, s, **options).item() == 0


def test_by_hand():
    s, t = torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert catkd_loss(s, t).item() == pytest.approx(30 / 4)
    assert catkd_loss(s, t, resolution=1).item() == pytest.approx(2.5**2)


def test_it_is_sound():
    assert_sound(catkd_loss, [maps(4, 3, 4, 4)], [maps(4, 3, 8, 8, seed=1)])
    assert_sound(lambda s, t: catkd_loss(s, t, normalise=True), [maps(4, 3, 4, 4)], [maps(4, 3, 4, 4, seed=1)])


def test_the_means_of_class_maps_are_the_logits_without_the_bias():
    features, last = maps(2, 5, 3, 3), nn.Linear(5, 4).double()
    found = class_maps(features, last.weight).mean((2, 3))
    torch.testing.assert_close(found, last(features.mean((2, 3))) - last.bias)


def test_the_term_trains_the_students_classifier_and_not_a_copy():
    student, teacher = build(Network("resnet8", 3)), build(Network("resnet8x4", 3))
    images = maps(4, 3, 16, 16).float()
    taps = ("stage3",)
    s, t = (tracer(net, aliases=aliases(net))(images, taps) for net in (student.eval(), teacher.eval()))
    learned = built(CATKD(), s, t, network=teacher, own=student)
    assert learned is not None
    assert not list(learned.parameters())
    assert not learned.state_dict()
    own, other = classifier(student, "student"), classifier(teacher, "teacher")
    ours, theirs = class_maps(s.taps["stage3"], own.weight), class_maps(t.taps["stage3"], other.weight)
    assert value(CATKD(), s, t, learned) == pytest.approx(derived(ours.double(), theirs.double()), rel=1e-4)
    learned(s.taps["stage3"], t.taps["stage3"])[0].sum().backward()
    assert own.weight.grad is not None


def test_what_does_not_fit_is_refused():
    student, teacher = build(Network("resnet8", 3)), build(Network("resnet8", 3))
    images = maps(4, 3, 16, 16).float()
    taps = ("stage3", "stage2")
    s, t = (tracer(net, aliases=aliases(net))(images, taps) for net in (student.eval(), teacher.eval()))
    sentence = (
        r"The term 'catkd' needs class maps, but the student's logits are not its classifier's answer to the mean of "
        r"'stage2'; tap the last map of a network that averages and classifies it\."
    )
    with pytest.raises(UserError, match=f"^{sentence}$"):
        built(CATKD(student=("stage2",)), s, t, network=teacher, own=student)
    with pytest.raises(UserError, match=r"^The resolution of 'catkd' is 0; expected a whole number ≥ 1\.$"):
        CATKD(resolution=0)
    with pytest.raises(UserError, match=r"compares maps, but the student's 'stage3' is of shape \(N, 5\)"):
        built(CATKD(), trace(stage3=maps(4, 5)), t, network=teacher, own=student)
