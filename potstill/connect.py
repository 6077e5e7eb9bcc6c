"""Connectors: what makes two activations comparable, sized by a dry run."""

import abc
from dataclasses import dataclass

from torch import Tensor, nn

from potstill.errors import UserError
from potstill.gram import precise, unit
from potstill.maps import map_pairs, match_size, told
from potstill.term import Term
from potstill.types import Trace


@dataclass(frozen=True, kw_only=True)
class Connector(abc.ABC):
    """How an activation of the student is made comparable with one of the teacher."""

    @abc.abstractmethod
    def build(self, student: Tensor, teacher: Tensor) -> nn.Module:
        """What is learned for it, sized by a dry run's activations.

        Raises:
            UserError: it cannot join these two.
        """


@dataclass(frozen=True, kw_only=True)
class Identity(Connector):
    """Nothing in between: the channels must agree."""

    def build(self, student: Tensor, teacher: Tensor) -> nn.Module:
        """Nothing to learn."""
        if student.shape[1] != teacher.shape[1]:
            raise UserError(
                f"The identity cannot connect {told(student)} with {told(teacher)}; expected equal channels: "
                "use Pointwise(), say."
            )
        return nn.Identity()


@dataclass(frozen=True, kw_only=True)
class Pointwise(Connector):
    """A 1×1 convolution to the teacher's channels, with a bias where no batch norm follows.

    Attributes:
        norm: Whether batch norm follows.
        relu: Whether a ReLU ends it: not for targets from before a ReLU, half of which it could not reach.
    """

    norm: bool = False
    relu: bool = False

    def build(self, student: Tensor, teacher: Tensor) -> nn.Module:
        """The convolution."""
        inputs, outputs = student.shape[1], teacher.shape[1]
        return _ended(nn.Conv2d(inputs, outputs, 1, bias=not self.norm), outputs, self.norm, self.relu)


@dataclass(frozen=True, kw_only=True)
class Regressor(Connector):
    """FitNets' regressor (arXiv:1412.6550) as later tables have it: one convolution to the teacher's channels and size.

    A map twice as large gets a 3×3 convolution of stride 2, one half as large a transposed 4×4 one; between others a
    valid convolution of k = 1 + H_student − H_teacher does it. Where the student's map is smaller by another factor it
    is 1×1, and the teacher's map is pooled afterwards.

    Attributes:
        norm: Whether batch norm follows.
        relu: Whether a ReLU ends it: not for targets from before a ReLU, half of which it could not reach.
    """

    norm: bool = True
    relu: bool = True

    def build(self, student: Tensor, teacher: Tensor) -> nn.Module:
        """The convolution that fits the two sizes."""
        inputs, outputs = student.shape[1], teacher.shape[1]
        (h, w), (H, W) = student.shape[2:], teacher.shape[2:]
        bias = not self.norm
        if (h, w) == (2 * H, 2 * W):
            layer: nn.Module = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=bias)
        elif (2 * h, 2 * w) == (H, W):
            layer = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=bias)
        else:
            layer = nn.Conv2d(inputs, outputs, (1 + max(h - H, 0), 1 + max(w - W, 0)), bias=bias)
        return _ended(layer, outputs, self.norm, self.relu)


@dataclass(frozen=True, kw_only=True)
class Projector(Connector):
    """SimKD's projector (arXiv:2203.14001): 1×1, 3×3, 1×1, each with batch norm and ReLU, without biases.

    Attributes:
        factor: f: the inner width is the teacher's divided by it.
        depthwise: Whether the 3×3 convolution looks at each channel by itself.
    """

    factor: int = 2
    depthwise: bool = False

    def __post_init__(self) -> None:
        if self.factor < 1:
            raise UserError(f"The projector's factor is {self.factor}; expected a whole number ≥ 1.")

    def build(self, student: Tensor, teacher: Tensor) -> nn.Module:
        """The three convolutions."""
        inputs, outputs = student.shape[1], teacher.shape[1]
        mid = max(outputs // self.factor, 1)
        return nn.Sequential(
            *_ended(nn.Conv2d(inputs, mid, 1, bias=False), mid, True, True),
            *_ended(
                nn.Conv2d(mid, mid, 3, padding=1, groups=mid if self.depthwise else 1, bias=False), mid, True, True
            ),
            *_ended(nn.Conv2d(mid, outputs, 1, bias=False), outputs, True, True),
        )


class Unit(nn.Module):
    """Vectors scaled to unit length."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) to the same shape."""
        return unit(precise(x))


def embedding(inputs: int, outputs: int, *, hidden: bool = False, unit: bool = False) -> nn.Sequential:
    """A map of vectors (N, inputs), or of activations flattened, to (N, outputs).

    Args:
        inputs: Features per image.
        outputs: D.
        hidden: Whether a layer of 2·D and a ReLU stand in between.
        unit: Whether the result is scaled to unit length.
    """
    inner = [nn.Linear(inputs, 2 * outputs), nn.ReLU(), nn.Linear(2 * outputs, outputs)]
    layers = inner if hidden else [nn.Linear(inputs, outputs)]
    return nn.Sequential(nn.Flatten(), *layers, *([Unit()] if unit else []))


def halving(width: int) -> nn.Sequential:
    """Two separable convolutions, 3×3 by channel and 1×1, with batch norm and ReLU: half the size, twice as wide."""
    layers: list[nn.Module] = []
    for stride, outputs in ((2, width), (1, 2 * width)):
        by_channel = nn.Conv2d(width, width, 3, stride=stride, padding=1, groups=width, bias=False)
        across = nn.Conv2d(width, outputs, 1, bias=False)
        for layer in (by_channel, across):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        layers += [by_channel, across, nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers)


def normal_start(connector: nn.Module) -> nn.Module:
    """A connector whose convolutions start normal, of variance 2 / (k² · outputs): published for AB, OFD and SRRL."""
    for part in connector.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
    return connector


def connectors(term: Term, connector: Connector, student: Trace, teacher: Trace | None) -> nn.ModuleList:
    """One connector for each pair of maps that a term compares."""
    return nn.ModuleList(connector.build(s, t) for s, t in map_pairs(term, student, teacher))


def connected(
    term: Term, learned: nn.Module | None, student: Trace, teacher: Trace | None
) -> list[tuple[Tensor, Tensor]]:
    """The pairs of maps behind their connectors, at one size each."""
    assert isinstance(learned, nn.ModuleList)
    pairs = map_pairs(term, student, teacher)
    return [match_size(part(s), t) for part, (s, t) in zip(learned, pairs, strict=True)]


def _ended(layer: nn.Module, channels: int, norm: bool, relu: bool) -> nn.Sequential:
    return nn.Sequential(layer, *([nn.BatchNorm2d(channels)] if norm else []), *([nn.ReLU()] if relu else []))
