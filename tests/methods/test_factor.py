import math

import pytest
import torch
from torch import nn

from methods.maps import START, assert_sound, batch, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.factor import Factor, factor_loss


def unit(values):
    length = math.sqrt(math.fsum(v * v for v in values))
    return [v / length for v in values]


def flat(image, collapse):
    if not collapse:
        return unit(image.flatten().tolist())
    C, H, W = image.shape
    return unit([sum(image[c, y, x].item() ** 2 for c in range(C)) / C for y in range(H) for x in range(W)])


def derived(s, t, collapse=False):
    apart = [
        abs(a - b)
        for one, other in zip(s, t, strict=True)
        for a, b in zip(flat(one, collapse), flat(other, collapse), strict=True)
    ]
    return math.fsum(apart) / len(apart)


@pytest.mark.parametrize("collapse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 3, 4, 2), (3, 5, 2, 2)])
def test_the_loss_is_the_mean_distance_of_unit_factors(shape, collapse):
    s, t = maps(*shape), maps(*shape, seed=1)
    want = derived(s, t, collapse)
    assert factor_loss(s, t, collapse=collapse).item() == pytest.approx(want, rel=1e-9)
    assert factor_loss(s.float(), t.float(), collapse=collapse).item() == pytest.approx(want, rel=1e-4)
    assert factor_loss(3 * s, 0.1 * t, collapse=collapse).item() == pytest.approx(want, rel=1e-9)
    assert factor_loss(s, s, collapse=collapse).item() == 0


def test_by_hand():
    s, t = torch.tensor([3.0, 4.0]).view(1, 1, 1, 2), torch.tensor([0.0, 2.0]).view(1, 1, 1, 2)
    assert factor_loss(s, t).item() == pytest.approx((0.6 + 0.2) / 2)


def test_it_is_sound():
    assert_sound(factor_loss, [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])
    assert_sound(lambda s, t: factor_loss(s, t, collapse=True), [maps(4, 3, 2, 2)], [maps(4, 3, 2, 2, seed=1)])


def traces():
    return trace(stage3=maps(4, 3, 4, 4)), trace(stage3=maps(4, 6, 2, 2, seed=1))


@pytest.mark.parametrize("collapse", [False, True])
def test_the_paraphraser_learns_to_restore_the_teachers_map(collapse):
    s, t = traces()
    t = trace(stage3=t.taps["stage3"].relu())
    term = Factor(phase="paraphrase", collapse=collapse)
    learned = built(term, s, t)
    assert learned is not None
    optimizer = torch.optim.Adam([p for p in learned.parameters() if p.requires_grad], 0.01)
    losses: list[float] = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = term.loss(batch(4), s, t, learned, START)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    moved = {name.split(".")[1] for name, p in learned.named_parameters() if p.grad is not None}
    assert moved == {"paraphraser", "restorer"}


def test_the_transfer_leaves_the_paraphraser_alone():
    s, t = traces()
    learned = built(Factor(), s, t)
    assert learned is not None
    learned.requires_grad_(True).train()  # As a stage that trains "*" does.
    before = {name: value.clone() for name, value in learned.state_dict().items()}
    term = Factor(collapse=False)
    loss = term.loss(batch(4), s, t, learned, START)
    loss.backward()
    assert {name.split(".")[1] for name, p in learned.named_parameters() if p.grad is not None} == {"translator"}
    for name, now in learned.state_dict().items():
        assert "translator" in name or torch.equal(now, before[name]), name
    part = learned.get_submodule("0")
    translated = part.get_submodule("translator")(s.taps["stage3"])
    factor = part.get_submodule("paraphraser")(t.taps["stage3"])
    assert factor.shape == (4, 3, 2, 2)
    want = derived(nn.functional.adaptive_avg_pool2d(translated, 2), factor)
    assert loss.item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("collapse", [False, True])
def test_only_the_translator_of_collapsed_factors_has_batch_norm(collapse):
    learned = built(Factor(collapse=collapse), *traces())
    assert learned is not None
    normed = {name.split(".")[1] for name, part in learned.named_modules() if isinstance(part, nn.BatchNorm2d)}
    assert normed == ({"translator"} if collapse else set())
    convolutions = [p for p in learned.modules() if isinstance(p, nn.Conv2d | nn.ConvTranspose2d)]
    assert [p.bias is not None for p in convolutions] == [True] * 9


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_what_does_not_fit_is_refused(share):
    with pytest.raises(UserError, match=r"^The share of 'factor' is .*; expected a number above 0, up to 1\.$"):
        Factor(share=share)
    with pytest.raises(UserError, match=r"expected equal shapes"):
        factor_loss(maps(2, 3, 2, 2), maps(2, 4, 2, 2))
    assert value(Factor(), *traces(), built(Factor(), *traces())) > 0
