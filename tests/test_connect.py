import pytest
import torch
from torch import nn

from potstill.connect import Identity, Pointwise, Projector, Regressor, embedding, normal_start
from potstill.errors import UserError
from potstill.maps import as_map, as_vector, match_size


def test_tokens_are_laid_out_in_rows_and_a_class_token_is_dropped():
    tokens = torch.arange(2 * 4 * 3.0).view(2, 4, 3)
    found = as_map(tokens)
    assert found.shape == (2, 3, 2, 2)
    assert torch.equal(found[0, :, 0, 1], tokens[0, 1])
    assert torch.equal(found[0, :, 1, 0], tokens[0, 2])
    assert torch.equal(as_map(torch.cat([torch.full((2, 1, 3), 99.0), tokens], dim=1)), found)
    assert as_map(found) is found
    assert torch.equal(as_vector(tokens), tokens.mean(1))
    assert torch.equal(as_vector(found), found.mean((2, 3)))
    assert as_vector(tokens[:, 0]).shape == (2, 3)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((2, 7, 3), r"The tap holds 7 tokens, \(N, 7, 3\), which make no square map; tap a map, or square tokens\."),
        (
            (2, 7),
            r"The tap is of shape \(N, 7\); expected a map \(N, C, H, W\) or tokens \(N, T, C\): tap a layer of it\.",
        ),
    ],
)
def test_what_is_no_map_is_refused(shape, sentence):
    with pytest.raises(UserError, match=f"^{sentence}$"):
        as_map(torch.zeros(shape), "The tap")


def test_the_larger_map_is_pooled():
    large, small = torch.randn(2, 3, 8, 4), torch.randn(2, 5, 4, 4)
    first, second = match_size(large, small)
    assert second is small
    torch.testing.assert_close(first, nn.functional.avg_pool2d(large, (2, 1)))
    third, fourth = match_size(small, large)
    assert third is small
    assert torch.equal(fourth, first)


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(
    ("ours", "theirs", "kernel", "after"),
    [
        ((8, 8), (4, 4), (3, 3), (4, 4)),
        ((4, 4), (8, 8), (4, 4), (8, 8)),
        ((4, 4), (4, 4), (1, 1), (4, 4)),
        ((7, 7), (5, 5), (3, 3), (5, 5)),
        ((6, 7), (5, 4), (2, 4), (5, 4)),
        ((2, 2), (8, 8), (1, 1), (2, 2)),
    ],
)
def test_the_regressor_leads_to_the_teachers_size(ours, theirs, kernel, after, norm):
    s, t = torch.randn(2, 3, *ours), torch.randn(2, 5, *theirs)
    built = Regressor(norm=norm, relu=norm).build(s, t)
    assert built(s).shape == (2, 5, *after)
    layer = next(built.children())
    assert isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)
    assert layer.kernel_size == kernel
    assert (layer.bias is None) == norm
    assert [type(part) for part in list(built.children())[1:]] == ([nn.BatchNorm2d, nn.ReLU] if norm else [])


def test_a_normal_start_goes_by_the_outputs():
    built = normal_start(Pointwise(norm=True).build(torch.randn(2, 300, 4, 4), torch.randn(2, 50, 4, 4)))
    weight = built.get_parameter("0.weight")
    assert weight.std().item() == pytest.approx((2 / 50) ** 0.5, rel=0.03)
    assert weight.abs().max() > 3 * weight.std()  # A uniform distribution ends at √3 of them.
    assert torch.equal(built.get_parameter("1.weight"), torch.ones(50))


def test_the_projector_is_simkds_and_its_factor_saves_parameters():
    s, t = torch.randn(2, 6, 4, 4), torch.randn(2, 16, 4, 4)
    for factor, depthwise in ((1, False), (2, False), (4, False), (2, True)):
        built = Projector(factor=factor, depthwise=depthwise).build(s, t)
        mid = 16 // factor
        inner = 9 * mid * (1 if depthwise else mid)
        count = 6 * mid + inner + mid * 16 + 2 * (mid + mid + 16)
        assert sum(p.numel() for p in built.parameters()) == count
        assert built(s).shape == t.shape
        assert (built(s) >= 0).all()
    with pytest.raises(UserError, match=r"^The projector's factor is 0; expected a whole number ≥ 1\.$"):
        Projector(factor=0)


def test_the_identity_needs_equal_channels():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 4, 4)
    assert Identity().build(s, s)(s) is s
    with pytest.raises(UserError, match=r"^The identity cannot connect \(N, 3, 4, 4\) with \(N, 5, 4, 4\); expected"):
        Identity().build(s, t)


def test_a_pointwise_connector_has_a_bias_where_no_norm_follows():
    s, t = torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)
    assert [type(part) for part in Pointwise().build(s, t).children()] == [nn.Conv2d]
    assert sum(p.numel() for p in Pointwise().build(s, t).parameters()) == 3 * 5 + 5
    assert sum(p.numel() for p in Pointwise(norm=True, relu=True).build(s, t).parameters()) == 3 * 5 + 2 * 5
    assert Pointwise(norm=True).build(s, t)(s).shape == (2, 5, 4, 4)


@pytest.mark.parametrize("hidden", [False, True])
def test_embeddings_are_sized_and_of_unit_length(hidden):
    x = torch.randn(4, 6)
    assert embedding(6, 5, hidden=hidden)(x).shape == (4, 5)
    long = embedding(6, 5, hidden=hidden, unit=True)(x).norm(dim=1)
    torch.testing.assert_close(long, torch.ones(4))
    count = sum(p.numel() for p in embedding(6, 5, hidden=hidden).parameters())
    assert count == (6 * 10 + 10 + 10 * 5 + 5 if hidden else 6 * 5 + 5)
