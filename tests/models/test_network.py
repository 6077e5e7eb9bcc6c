import copy
import importlib
from typing import cast

import pytest
import torch
from torch import nn

from potstill.errors import UserError
from potstill.models import Network, build


class Tiny(nn.Module):
    def __init__(self, slope=0.1):
        super().__init__()
        self.act = nn.LeakyReLU(slope)
        self.fc = nn.Linear(4, 2)
        self.register_buffer("kept", torch.ones(3, dtype=torch.bfloat16))

    def forward(self, x):
        return self.fc(self.act(x.flatten(1)))


def tiny(seed=0, **options):
    torch.manual_seed(seed)
    return Tiny(**options)


def test_it_is_plain_data():
    assert Network("resnet20", 100) == Network("resnet20", 100, 3, {})
    assert Network("mnist_mlp", 10, 1, {"hidden": 8}) != Network("mnist_mlp", 10, 1, {"hidden": 9})
    assert len({Network("vgg8", 10), Network("vgg8", 10), Network("vgg8", 11)}) == 2


@pytest.mark.parametrize(
    ("classes", "channels", "sentence"),
    [
        (1, 3, "Network 'vgg8' was given 1 classes; expected 2 or more."),
        (10, 0, "Network 'vgg8' was given 0 channels; expected 1 or more."),
    ],
)
def test_bounds(classes, channels, sentence):
    with pytest.raises(UserError) as caught:
        Network("vgg8", classes, channels)
    assert str(caught.value) == sentence


def test_a_given_module_is_built_as_a_copy():
    module = tiny()
    network = Network.given(module, classes=2, channels=1)
    assert (network.name, network.classes, network.channels) == ("Tiny", 2, 1)
    first, second = build(network), build(network)
    with torch.no_grad():
        first.get_parameter("fc.weight").zero_()
    assert torch.equal(second.get_parameter("fc.weight"), module.fc.weight)
    assert module.fc.weight.any()


def test_what_happens_to_a_given_module_later_does_not_reach_the_network():
    module = tiny()
    network = Network.given(module, classes=2)
    before = module.fc.weight.detach().clone()
    with torch.no_grad():
        module.fc.weight.zero_()
    assert torch.equal(build(network).get_parameter("fc.weight"), before)


def test_the_hash_follows_weights_buffers_and_structure():
    plain = Network.given(tiny(), 2)
    assert plain == Network.given(copy.deepcopy(tiny()), 2)
    other_buffer = tiny()
    other_buffer.get_buffer("kept")[0] = 2
    different = [tiny(seed=1), tiny(slope=0.2), other_buffer]
    hashes = {plain.initial, *(Network.given(module, 2).initial for module in different)}
    assert len(hashes) == 4
    assert all(len(each or "") == 32 for each in hashes)


def test_the_hash_follows_the_source_of_the_class(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "from torch import nn\nclass Double(nn.Module):\n    def forward(self, x):\n        return {} * x\n"
    (tmp_path / "first_of_two.py").write_text(source.format(2))
    (tmp_path / "second_of_two.py").write_text(source.format(3))
    modules = [importlib.import_module(name) for name in ("first_of_two", "second_of_two")]
    first, second = (Network.given(module.Double(), 2).initial for module in modules)
    assert first != second


def test_a_class_without_source_can_be_given():
    spoken = type("Spoken", (nn.Linear,), {"__module__": "nowhere"})
    assert Network.given(spoken(2, 2), 2).name == "Spoken"


def test_lazy_parameters_are_refused():
    with pytest.raises(UserError) as caught:
        Network.given(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), 3)
    assert str(caught.value) == (
        "Sequential has lazy parameters without a shape; run it once on a batch before giving it."
    )


def test_a_record_of_a_given_module_cannot_be_built_without_it():
    network = Network("Tiny", 2, initial="ab" * 16)
    with pytest.raises(UserError) as caught:
        build(network)
    assert str(caught.value) == (
        "Network 'Tiny' was given as a module, and a record keeps only its hash: "
        "pass the same module again with Network.given."
    )


class Scaled(nn.Module):
    """What it does hangs on more than its parameters."""

    def __init__(self, scale=1.0, mean=0.0, shift=0.0, activation=torch.relu):
        super().__init__()
        self._scale = scale
        self.shift = torch.tensor(shift)
        self.activation = activation
        self.fc = nn.Linear(4, 2)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)

    def forward(self, x):
        return self._scale * self.activation(self.fc(x.flatten(1) - self.mean)) + self.shift


@pytest.mark.parametrize(
    "other",
    [{"scale": -1.0}, {"mean": 1.0}, {"shift": 1.0}, {"activation": torch.tanh}],
    ids=lambda other: next(iter(other)),
)
def test_what_is_no_parameter_tells_networks_apart_too(other):
    def initial(**options):
        torch.manual_seed(0)
        return Network.given(Scaled(**options), 2).initial

    assert initial() == initial() != initial(**other)


def test_what_cannot_be_copied_is_told():
    module = tiny()
    vars(module)["held"] = (one for one in ())
    with pytest.raises(UserError, match=r"^Tiny cannot be copied \(cannot pickle 'generator' object\); give a plain"):
        Network.given(module, 2)
    vars(module)["held"] = module.fc.weight * 2
    with pytest.raises(UserError, match=r"^Tiny cannot be copied \(Only Tensors created explicitly by the user"):
        Network.given(module, 2)
    with pytest.raises(UserError, match=r"^Tiny has parameters on the meta device, without values; load its weights"):
        Network.given(tiny().to("meta"), 2)


class Noting(nn.Linear):
    """Saves something that is no tensor."""

    def get_extra_state(self):
        return {"version": 2, "beside": object()}

    def set_extra_state(self, state):
        pass


def test_state_that_is_no_tensor_leaves_a_module_what_it_is():
    torch.manual_seed(0)
    module = Noting(4, 2)
    assert Network.given(module, 2) == Network.given(module, 2)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning", "ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_is_told():
    scripted = cast(nn.Module, torch.jit.trace(tiny().eval(), torch.zeros(1, 1, 2, 2)))
    with pytest.raises(
        UserError, match=r"^TopLevelTracedModule is TorchScript, which shows nothing inside; give the mod"
    ):
        Network.given(scripted, 2)
