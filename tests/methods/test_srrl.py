import pytest
import torch
from torch import nn

from methods.maps import assert_sound, built, maps, trace, value
from potstill.errors import UserError
from potstill.methods.srrl import SRRL, srrl_loss
from potstill.models import Network, build


def mean_square(a, b):
    pairs = list(zip(a.flatten().tolist(), b.flatten().tolist(), strict=True))
    return sum((x - y) ** 2 for x, y in pairs) / len(pairs)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize(("n", "c", "k"), [(1, 1, 2), (3, 4, 5), (2, 8, 3)])
def test_the_loss_is_of_features_and_of_logits(n, c, k, beta):
    r, f, rz, z = maps(n, c), maps(n, c, seed=1), maps(n, k, seed=2), maps(n, k, seed=3)
    want = mean_square(r, f) + beta * mean_square(rz, z)
    assert srrl_loss(r, f, rz, z, beta=beta).item() == pytest.approx(want, rel=1e-9)
    assert srrl_loss(r.float(), f.float(), rz.float(), z.float(), beta=beta).item() == pytest.approx(want, rel=1e-4)
    assert srrl_loss(f, f, z, z).item() == 0


def test_by_hand():
    one, three = torch.ones(1, 2), torch.full((1, 2), 3.0)
    assert srrl_loss(one, three, one, 2 * three, beta=0.5).item() == pytest.approx(4 + 0.5 * 25)


def test_it_is_sound():
    def loss(r, rz, f, z):
        return srrl_loss(r, f, rz, z)

    assert_sound(loss, [maps(4, 3), maps(4, 5, seed=1)], [maps(4, 3, seed=2), maps(4, 5, seed=3)])


def test_the_term_reads_with_the_teachers_classifier_which_is_not_learned():
    teacher = build(Network("resnet8", 3)).double()
    s = trace(stage3=maps(4, 5, 4, 4))
    t = trace(pooled=maps(4, 64, seed=1))
    learned = built(SRRL(beta=0.5), s, t, network=teacher)
    assert learned is not None
    regressed, logits = learned(s.taps["stage3"])
    last = teacher.get_submodule("fc")
    torch.testing.assert_close(logits, last(regressed))
    want = mean_square(regressed, t.taps["pooled"]) + 0.5 * mean_square(logits, t.logits)
    assert value(SRRL(beta=0.5), s, t, learned) == pytest.approx(want, rel=1e-6)
    assert all(name.startswith("connector.") for name in learned.state_dict())
    # What trains the teacher's copy would move both or neither.
    assert not any(p is q for p in learned.parameters() for q in teacher.parameters())


def test_what_does_not_fit_is_refused():
    s, t = trace(stage3=maps(4, 5, 4, 4)), trace(pooled=maps(4, 63, seed=1))
    with pytest.raises(
        UserError, match=r"^The teacher's 'pooled' has 63 features but its classifier reads 64; tap what"
    ):
        built(SRRL(), s, t, network=build(Network("resnet8", 3)))
    with pytest.raises(UserError, match=r"^The teacher, a ReLU, does not end in a linear classifier; give a network"):
        built(SRRL(), s, t, network=nn.ReLU())
    with pytest.raises(UserError, match=r"^The beta of 'srrl' is -1; expected a number ≥ 0\.$"):
        SRRL(beta=-1.0)
    with pytest.raises(UserError, match=r"^The term 'srrl' was given 2 pairs of taps; expected one\.$"):
        SRRL(student=("a", "b"), teacher=("a", "b"))
    with pytest.raises(UserError, match=r"expected equal shapes"):
        srrl_loss(maps(2, 3), maps(2, 4), maps(2, 5), maps(2, 5))
