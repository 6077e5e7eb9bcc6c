import json
import warnings

import pytest
import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import Network, build, summarize


def test_the_teacher_on_mnist():
    summary = summarize(build(Network("mnist_conv", 10, 1)), (1, 28, 28), "teacher")
    assert (summary["name"], summary["parameters"], summary["trainable_parameters"]) == (
        "teacher",
        1_199_882,
        1_199_882,
    )
    # By hand: weights and biases of each convolution once per place, of each linear layer once.
    assert summary["mult_adds"] == 320 * 26 * 26 + 18_496 * 24 * 24 + 1_179_776 + 1_290
    assert summary["layers"][0] == {
        "layer": "conv1",
        "kind": "Conv2d",
        "output_shape": [1, 32, 26, 26],
        "parameters": 320,
        "mult_adds": 320 * 26 * 26,
    }
    assert [layer["layer"] for layer in summary["layers"]] == [
        *("conv1", "relu1", "conv2", "relu2", "pool", "dropout1"),
        *("flatten", "fc1", "relu3", "dropout2", "fc2"),
    ]
    assert json.loads(json.dumps(summary)) == summary


def test_the_student_on_mnist():
    summary = summarize(build(Network("mnist_mlp", 10, 1)), (1, 28, 28), "student")
    assert (summary["parameters"], summary["mult_adds"]) == (12_730, 12_730)


def test_layers_have_full_paths_and_add_up():
    module = build(Network("resnet8", 10))
    module.get_parameter("conv1.weight").requires_grad_(False)
    summary = summarize(module, (3, 32, 32), "resnet8")
    paths = [layer["layer"] for layer in summary["layers"]]
    assert "layer2.0.downsample.0" in paths
    assert "layer1.0.downsample" not in paths  # The identity.
    assert sum(layer["parameters"] for layer in summary["layers"]) == summary["parameters"]
    assert summary["trainable_parameters"] == summary["parameters"] - 16 * 3 * 9


def test_nothing_is_touched_and_nothing_warned():
    torch.manual_seed(0)
    module = build(Network("digits_conv", 10, 1)).train()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summarize(module, (1, 8, 8), "digits_conv")
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return self.fc(self.fc(x.flatten(1))) + torch.rand(1)


def test_a_layer_called_twice_works_twice_and_weighs_once():
    noisy, state = Noisy(), torch.get_rng_state()
    summary = summarize(noisy, (1, 2, 2), "noisy")
    assert torch.equal(torch.get_rng_state(), state)
    assert [(layer["parameters"], layer["mult_adds"]) for layer in summary["layers"]] == [(20, 20), (0, 20)]
    assert (summary["parameters"], summary["mult_adds"]) == (20, 40)


def test_a_linear_layer_over_tokens_runs_once_per_token():
    module = nn.Sequential(nn.Flatten(2), nn.Linear(4, 5))
    assert summarize(module, (3, 2, 2), "tokens")["mult_adds"] == 3 * 25


def test_half_precision_is_counted_too():
    module = build(Network("mnist_mlp", 10, 1)).bfloat16()
    assert summarize(module, (1, 28, 28), "half")["mult_adds"] == 12_730


def test_a_wrong_shape_is_a_sentence():
    with pytest.raises(
        UserError, match=r"student cannot read images of shape \(3, 32, 32\) \(C, H, W\): .*cannot be multiplied"
    ):
        summarize(build(Network("mnist_mlp", 10, 1)), (3, 32, 32), "student")
