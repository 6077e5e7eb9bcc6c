"""What others published on CIFAR-100: test accuracies by teacher and student, and the weights that belong to them.

Accuracies are in percent, as printed, and mostly means over runs. Those that RepDistiller printed were read after the
last epoch; those of DKD, CTKD, RLD and MLKD, of standardized logits, and of SRRL, SemCKD and SimKD in the best epoch on
the test set, which is a quarter to half a percent above the last. Feature methods learn from labels beside their own
term, SRRL and SemCKD from soft targets of weight 1 too, SimKD from neither. What is known at second hand only is not
here.
"""

from types import MappingProxyType
from typing import NamedTuple

Pair = tuple[str, str]
"""Teacher and student, as the zoo calls them."""

_SAME_FAMILY: tuple[Pair, ...] = (
    ("wrn_40_2", "wrn_16_2"),
    ("wrn_40_2", "wrn_40_1"),
    ("resnet56", "resnet20"),
    ("resnet110", "resnet20"),
    ("resnet110", "resnet32"),
    ("resnet32x4", "resnet8x4"),
    ("vgg13", "vgg8"),
)
_SAME_FAMILY_ROWS: dict[str, tuple[float | None, ...]] = {
    "kd": (74.92, 73.54, 70.66, 70.67, 73.08, 73.33, 72.98),
    "hint": (73.58, 72.24, 69.21, 68.99, 71.06, 73.50, 71.02),
    "attention": (74.08, 72.77, 70.55, 70.22, 72.31, 73.44, 71.43),
    "similarity": (73.83, 72.43, 69.67, 70.04, 72.69, 72.94, 72.68),
    "correlation": (73.56, 72.21, 69.63, 69.48, 71.48, 72.97, 70.71),
    "vid": (74.11, 73.30, 70.38, 70.16, 72.61, 73.09, 71.23),
    "rkd": (73.35, 72.22, 69.61, 69.25, 71.82, 71.90, 71.48),
    "pkt": (74.54, 73.45, 70.34, 70.25, 72.61, 73.64, 72.88),
    "ab": (72.50, 72.38, 69.47, 69.53, 70.98, 73.17, 70.94),
    "factor": (73.25, 71.59, 69.84, 70.22, 72.37, 72.86, 70.58),
    "fsp": (72.91, None, 69.95, 70.11, 71.89, 72.62, 70.23),
    "nst": (73.68, 72.24, 69.60, 69.53, 71.96, 73.30, 71.53),
    "crd": (75.48, 74.14, 71.16, 71.46, 73.48, 75.51, 73.94),
    "ofd": (75.24, 74.33, 70.98, None, 73.23, 74.95, 73.95),
    "review": (76.12, 75.09, 71.89, None, 73.89, 75.63, 74.84),
    "dist": (75.51, 74.73, 71.75, 71.65, 73.69, 76.31, 73.89),
    "dkd": (76.24, 74.81, 71.97, 71.06, 74.11, 76.32, 74.68),
    "ttm": (76.23, 74.32, 71.83, 71.46, 73.97, 76.17, 74.33),
    "wttm": (76.37, 74.58, 71.92, 71.67, 74.13, 76.06, 74.44),
    "wttm+crd": (76.61, 74.94, 72.20, 72.13, 74.52, 76.65, 74.71),
    "ctkd": (75.45, 73.93, 71.19, 70.99, 73.52, 73.39, 73.52),
    "kd+ls": (76.11, 74.37, 71.43, 71.48, 74.17, 76.62, 74.36),
    "dkd+ls": (76.39, 74.89, 72.32, 71.85, 74.29, 77.01, 74.81),
    "rld": (None, None, 72.00, None, 74.02, 76.64, 74.93),
    "mlkd": (76.63, 75.35, 72.19, 71.89, 74.11, 77.08, 75.18),
    "mlkd+ls": (76.95, 75.56, 72.33, 72.27, 74.32, 78.28, 75.22),
}

_OTHER_FAMILY: tuple[Pair, ...] = (
    ("vgg13", "mobilenet_v2"),
    ("resnet50", "mobilenet_v2"),
    ("resnet50", "vgg8"),
    ("resnet32x4", "shufflenet_v1"),
    ("resnet32x4", "shufflenet_v2"),
    ("wrn_40_2", "shufflenet_v1"),
)
_OTHER_FAMILY_ROWS: dict[str, tuple[float | None, ...]] = {
    "kd": (67.37, 67.35, 73.81, 74.07, 74.45, 74.83),
    "hint": (64.14, 63.16, 70.69, 73.59, 73.54, 73.73),
    "attention": (59.40, 58.58, 71.84, 71.73, 72.73, 73.32),
    "similarity": (66.30, 68.08, 73.34, 73.48, 74.56, 74.52),
    "correlation": (64.86, 65.43, 70.25, 71.14, 71.29, 71.38),
    "vid": (65.56, 67.57, 70.30, 73.38, 73.40, 73.61),
    "rkd": (64.52, 64.43, 71.50, 72.28, 73.21, 72.21),
    "pkt": (67.13, 66.52, 73.01, 74.10, 74.69, 73.89),
    "ab": (66.06, 67.20, 70.65, 73.55, 74.31, 73.34),
    "factor": (61.78, 60.99, 70.29, 71.75, 72.50, 72.03),
    "nst": (58.16, 64.96, 71.28, 74.12, 74.68, 74.89),
    "crd": (69.73, 69.11, 74.30, 75.11, 75.65, 76.05),
    "ofd": (None, 69.04, None, 75.98, 76.82, None),
    "review": (70.37, 69.89, None, 77.45, 77.78, 77.14),
    "dist": (68.50, 68.66, 74.11, 76.34, 77.35, 76.40),
    "dkd": (69.71, 70.35, 75.34, 76.45, 77.07, 76.70),
    "ttm": (68.98, 69.24, 74.87, 74.18, 76.57, 75.39),
    "wttm": (69.16, 69.59, 74.82, 74.37, 76.55, 75.42),
    "wttm+crd": (70.30, 70.84, 75.30, 75.82, 77.04, 76.86),
    "kd+ls": (68.61, 69.02, None, None, 75.56, None),
    "dkd+ls": (69.98, 70.45, None, None, 77.37, None),
    "mlkd": (70.57, 71.04, None, None, 78.44, None),
    "mlkd+ls": (70.94, 71.19, None, None, 78.76, None),
}

_STANDARDIZED: tuple[Pair, ...] = (
    ("resnet32x4", "wrn_16_2"),
    ("resnet32x4", "wrn_40_2"),
    ("wrn_40_2", "resnet8x4"),
    ("wrn_40_2", "mobilenet_v2"),
)
_STANDARDIZED_ROWS: dict[str, tuple[float | None, ...]] = {
    "kd": (74.90, 77.70, 73.97, 68.36),
    "kd+ls": (75.26, 77.92, 77.11, 69.23),
    "dkd": (75.70, 78.46, 75.56, 69.28),
    "dkd+ls": (76.19, 78.95, 76.75, 70.01),
    "mlkd": (76.52, 79.26, 77.33, 70.78),
    "mlkd+ls": (77.53, 79.66, 77.68, 71.61),
}

_BESIDE_KD: tuple[Pair, ...] = (
    ("resnet32x4", "resnet8x4"),
    ("resnet32x4", "vgg8"),
    ("resnet32x4", "shufflenet_v2x1.5"),
    ("resnet32x4", "vgg13"),
    ("resnet32x4", "shufflenet_v2"),
    ("vgg13", "shufflenet_v2"),
    ("vgg13", "vgg8"),
    ("wrn_40_2", "mobilenet_v2"),
)
_BESIDE_KD_ROWS: dict[str, tuple[float | None, ...]] = {
    "srrl": (75.39, 73.23, 77.55, None, None, None, None, None),
    "semckd": (76.23, 75.27, 79.13, 79.43, 77.62, 76.39, 74.43, 69.61),
    "simkd": (78.08, 75.76, 79.54, None, None, None, None, None),
}

_TABLES = (
    (_SAME_FAMILY, _SAME_FAMILY_ROWS),
    (_OTHER_FAMILY, _OTHER_FAMILY_ROWS),
    (_STANDARDIZED, _STANDARDIZED_ROWS),
    (_BESIDE_KD, _BESIDE_KD_ROWS),
)

_FROM_LABELS: dict[str, float] = {
    "wrn_40_2": 75.61,
    "wrn_40_1": 71.98,
    "wrn_16_2": 73.26,
    "resnet110": 74.31,
    "resnet56": 72.34,
    "resnet32": 71.14,
    "resnet20": 69.06,
    "resnet32x4": 79.42,
    "resnet8x4": 72.50,
    "resnet50": 79.34,
    "vgg13": 74.64,
    "vgg8": 70.36,
    "mobilenet_v2": 64.60,
    "shufflenet_v1": 70.50,
    "shufflenet_v2": 71.82,
    "shufflenet_v2x1.5": 74.15,
}

CALLED = MappingProxyType(
    {
        "fitnet": "hint",
        "fitnets": "hint",
        "at": "attention",
        "sp": "similarity",
        "cc": "correlation",
        "ft": "factor",
    }
)
"""What tables call methods whose name here is another."""


class ClassMaps(NamedTuple):
    """How CAT-KD compares the class maps of a pair: its weight, the size of the maps, and whether they are scaled."""

    weight: float = 15.0
    resolution: int = 2
    normalise: bool = False


STANDARDIZED_KD = MappingProxyType[Pair, tuple[float, float]](
    {
        ("vgg13", "vgg8"): (3.0, 9.0),
        ("vgg13", "mobilenet_v2"): (3.0, 9.0),
        ("resnet32x4", "wrn_16_2"): (3.0, 9.0),
        ("resnet32x4", "wrn_40_2"): (3.0, 9.0),
        ("wrn_40_2", "mobilenet_v2"): (3.0, 9.0),
        ("resnet110", "resnet20"): (4.0, 12.0),
        ("resnet50", "mobilenet_v2"): (3.0, 1.0),
    }
)
"""Temperature and weight of KD on standardized logits, where they are not 2 and 9."""

DKD_BETA = MappingProxyType[Pair, float](
    {
        ("wrn_40_2", "wrn_16_2"): 6.0,
        ("wrn_40_2", "wrn_40_1"): 6.0,
        ("vgg13", "vgg8"): 6.0,
        ("vgg13", "mobilenet_v2"): 6.0,
        ("resnet56", "resnet20"): 2.0,
        ("resnet110", "resnet32"): 2.0,
        ("resnet110", "resnet20"): 2.0,  # Not printed: that of the same teacher with resnet32.
    }
)
"""β of DKD where it is not 8."""

REVIEW_WEIGHT = MappingProxyType[Pair, float](
    {
        ("resnet32x4", "shufflenet_v2"): 8.0,
        ("resnet56", "resnet20"): 0.6,
        ("resnet110", "resnet32"): 1.0,
    }
)
"""Weight of ReviewKD where it is not 5."""

CLASS_MAPS = MappingProxyType[Pair, ClassMaps](
    {
        ("wrn_40_2", "wrn_16_2"): ClassMaps(12.0, 2, False),
        ("wrn_40_2", "wrn_40_1"): ClassMaps(1.5, 2, False),
        ("resnet56", "resnet20"): ClassMaps(0.7, 2, False),
        ("resnet110", "resnet20"): ClassMaps(0.7, 2, False),
        ("resnet110", "resnet32"): ClassMaps(1.8, 2, False),
        ("resnet32x4", "resnet8x4"): ClassMaps(15.0, 2, False),
        ("vgg13", "vgg8"): ClassMaps(4.5, 2, False),
        ("vgg13", "mobilenet_v2"): ClassMaps(15.0, 2, True),
        ("resnet50", "mobilenet_v2"): ClassMaps(40.0, 2, True),
        ("resnet32x4", "shufflenet_v1"): ClassMaps(600.0, 4, True),
        ("resnet32x4", "shufflenet_v2"): ClassMaps(600.0, 4, True),
        ("wrn_40_2", "shufflenet_v1"): ClassMaps(80.0, 4, True),
    }
)
"""What CAT-KD compares; for other pairs as for resnet32x4 and resnet8x4."""


class Schedule(NamedTuple):
    """How long a student learns, and its learning rate at the start."""

    epochs: int = 480
    learning_rate: float = 0.025


MULTI_LEVEL = MappingProxyType[Pair, Schedule](
    {
        ("vgg13", "vgg8"): Schedule(learning_rate=0.01),
        ("vgg13", "mobilenet_v2"): Schedule(learning_rate=0.01),
        ("resnet50", "mobilenet_v2"): Schedule(learning_rate=0.01),
        ("wrn_40_2", "mobilenet_v2"): Schedule(learning_rate=0.005),
        ("wrn_40_2", "shufflenet_v1"): Schedule(learning_rate=0.01),
        ("resnet32x4", "shufflenet_v1"): Schedule(960, 0.01),
        ("resnet32x4", "shufflenet_v2"): Schedule(960, 0.01),
    }
)
"""The schedule of MLKD, which falls after epochs 150, 180 and 210 all the same; 480 epochs from 0.025 for others."""


def accuracy(method: str, teacher: str, student: str) -> float | None:
    """The test accuracy that was published for a method and a pair, as a fraction; None where there is none."""
    for pairs, rows in _TABLES:
        if (teacher, student) in pairs and method in rows:
            found = rows[method][pairs.index((teacher, student))]
            return None if found is None else round(found / 100, 6)
    return None


def accuracy_from_labels(network: str) -> float | None:
    """The test accuracy of a network that learned from labels alone, as a fraction; None where none was published."""
    return round(_FROM_LABELS[network] / 100, 6) if network in _FROM_LABELS else None
