"""Run folders as a run leaves them, with numbers that a test chooses."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from potstill.png import png
from potstill.record import FORMAT, SHORT
from potstill.report.attached import Pictures, Similarity, pictures_json, similarity_json

ENVIRONMENT = {
    "versions": {"potstill": "0.1.0", "python": "3.11.7", "torch": "2.15.0"},
    "device": "cpu",
    "cpu": "Some CPU",
    "threads": 1,
    "precision": "fp32",
    "compile": False,
    "commit": "0123456789abcdef0123",
    "deterministic": False,
    "flags": [],
    "resumed": [],
}

MLP = {
    "name": "mlp16",
    "parameters": 12730,
    "trainable_parameters": 12730,
    "mult_adds": 12730,
    "layers": [
        {"layer": "flatten", "kind": "Flatten", "output_shape": [1, 784], "parameters": 0, "mult_adds": 0},
        {"layer": "hidden", "kind": "Linear", "output_shape": [1, 16], "parameters": 12560, "mult_adds": 12560},
        {"layer": "head", "kind": "Linear", "output_shape": [1, 10], "parameters": 170, "mult_adds": 170},
    ],
}

CNN = MLP | {"name": "cnn", "parameters": 1199882, "mult_adds": 12_050_000}


def fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


TEACHER = fingerprint("teacher")


def epochs(
    accuracy: float, seed: int, count: int, terms: tuple[str, ...], stages: tuple[str, ...]
) -> list[dict[str, Any]]:
    lines = []
    for epoch in range(1, count + 1):
        left = math.exp(-0.6 * epoch) * (1 + 0.2 * math.sin(3 * seed + accuracy * 1000))
        stage = (epoch - 1) * len(stages) // count
        values = {term: (0.2 + 1.5 * left) / (1 + place) for place, term in enumerate(terms)}
        held = {term: value * 1.1 for term, value in values.items()}
        lines.append(
            {
                "epoch": epoch,
                "stage": stages[stage],
                "stage_index": stage,
                "step": 750 * epoch,
                "learning_rate": 0.001,
                "seconds": 1.9,
                "train": {"loss": sum(values.values()), "accuracy": accuracy + 0.01 - 0.3 * left, "terms": values},
                "validation": {
                    "loss": sum(held.values()),
                    "accuracy": accuracy - 0.3 * left,
                    "nll": 0.2 + left,
                    "terms": held,
                },
            }
        )
    return lines


def result(accuracy: float, seed: int, **changes: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "status": "finished",
        "reason": None,
        "seed": seed,
        "epochs": 10,
        "steps": 7500,
        "seconds": 19.0 + seed % 7,
        "test_accuracy": accuracy,
        "test_nll": 4 * (1 - accuracy),
        "ece": (1 - accuracy) / 5,
        "agreement": accuracy + 0.002,
        "kl_to_teacher": 3 * (1 - accuracy),
        "best_validation_epoch": 8,
        "best_validation_test_accuracy": accuracy + 0.0005,
        "best_last_gap": 0.0005,
        "parameters": 12730,
        "extra_parameters": 0,
        "mult_adds": 12730,
        "views_per_step": 1,
        "forwards_per_step": 1,
        "backwards_per_step": 1,
        "teacher": TEACHER,
        "bitwise": True,
    }
    return values | changes


class Runs:
    """A runs directory that grows by `run` and `sweep`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.named: list[dict[str, Any]] = []

    def run(
        self,
        arm: str,
        seed: int,
        accuracy: float,
        *,
        role: str = "student",
        published: float | None = None,
        settings: Mapping[str, Any] | None = None,
        terms: tuple[str, ...] = ("labels",),
        stages: tuple[str, ...] = ("train",),
        count: int = 10,
        name: str | None = None,
        identity: str | None = None,
        spec: Mapping[str, Any] | None = None,
        environment: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        name = name or f"mnist-hinton-{arm.replace(' ', '-')}"
        print_ = identity or (TEACHER if role == "teacher" else fingerprint(arm, seed, settings, spec))
        folder = self.folder / f"{name}-{print_[:SHORT]}"
        folder.mkdir(parents=True)
        run = {"seed": seed, "student": {"name": "mlp16"}, "data": {"name": "mnist"}, "stages": [], **(spec or {})}
        head = {"format": FORMAT, "version": "0.1.0", "fingerprint": print_, "name": name, "run": run}
        write(folder / "run.json", head)
        write(folder / "env.json", ENVIRONMENT | dict(environment or {}))
        model = CNN if role == "teacher" else MLP
        write(folder / "summary.json", {"student": model, "teacher": None if role == "teacher" else CNN})
        lines = epochs(accuracy, seed, count, terms, stages)
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        write(folder / "result.json", result(accuracy, seed, **changes))
        entry = {"arm": arm, "role": role, "seed": seed, "fingerprint": print_, "folder": folder.name}
        self.named.append(entry | {"published": published, "settings": dict(settings or {})})
        return folder

    def sweep(self, recipe: str = "mnist:hinton", **changes: Any) -> Path:
        path = self.folder / f"{recipe.replace(':', '-')}.sweep.json"
        value = {
            "format": FORMAT,
            "version": "0.1.0",
            "recipe": recipe,
            "title": "Soft targets on MNIST",
            "command": f"potstill run {recipe} --seeds 5",
            "runs": self.named,
            "questions": [],
        }
        write(path, value | changes)
        self.named = []
        return path


def write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value))


NO_TEACHER: dict[str, Any] = {"teacher": None, "agreement": None, "kl_to_teacher": None}


def hinton(runs: Runs, wobble: Callable[[int], float] = lambda seed: math.sin(7 * seed) / 500) -> Path:
    """The first experiment's arms over five seeds, with a teacher."""
    arms = (
        ("hard", 0.9456, 0.94559, ("labels",), {}),
        ("soft", 0.9501, 0.94980, ("kd",), {"temperature": 2.0, "alpha": 1.0}),
        ("hard+soft", 0.9498, 0.93910, ("labels", "kd"), {"temperature": 2.0, "alpha": 0.8}),
        ("hard+soft, published reduction", 0.9462, 0.93910, ("labels", "kd"), {"temperature": 2.0, "alpha": 0.8}),
    )
    for seed in range(42, 47):
        for place, (arm, accuracy, published, terms, settings) in enumerate(arms):
            changes: dict[str, Any] = NO_TEACHER if arm == "hard" else {}
            value = round(accuracy + wobble(seed + 100 * place), 4)
            runs.run(arm, seed, value, published=published, terms=terms, settings=settings, **changes)
    big: dict[str, Any] = {"parameters": 1199882, "mult_adds": 12_050_000}
    runs.run("teacher", 42, 0.9903, role="teacher", published=0.99029, count=5, **NO_TEACHER, **big)
    return runs.sweep()


def predict(folder: Path, logits: NDArray[Any], labels: NDArray[Any]) -> None:
    """Predictions as a run leaves them."""
    tensors = {"logits": logits.astype(np.float16), "labels": labels.astype(np.int64)}
    (folder / "predictions.safetensors").write_bytes(save(tensors))


def know(folder: Path, right: Sequence[int], labels: Sequence[int]) -> None:
    """Give a run predictions: the label where the image's number is right, else the next class."""
    truth = np.array(labels, dtype=np.int64)
    chosen = np.where(np.isin(np.arange(len(truth)), right), truth, (truth + 1) % 10)
    logits = np.zeros((len(truth), 10))
    logits[np.arange(len(truth)), chosen] = 3
    predict(folder, logits, truth)


def guesses(labels: NDArray[Any], seed: int, wrong: float, classes: int = 10) -> NDArray[Any]:
    """Logits that are wrong about a share of the images, mostly in favour of the next class."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(len(labels), classes))
    towards = np.where(generator.random(len(labels)) < wrong, (labels + 1) % classes, labels)
    logits[np.arange(len(labels)), towards] += 4
    return logits


def predicted(runs: Runs, images: int = 300, classes: int = 10, recipe: str = "mnist:predicted") -> Path:
    """A comparison of three arms over three seeds and a teacher, all with predictions."""
    labels = np.arange(images) % classes
    taught = fingerprint("teacher", recipe)
    for seed in range(3):
        for place, (arm, wrong) in enumerate((("labels", 0.3), ("soft", 0.2), ("hint <b>", 0.25))):
            folder = runs.run(arm, seed, 1 - wrong - seed / 1000, spec={"of": recipe}, teacher=taught)
            predict(folder, guesses(labels, 10 * place + seed, wrong, classes), labels)
    folder = runs.run("teacher", 0, 0.9, role="teacher", identity=taught, **NO_TEACHER)
    predict(folder, guesses(labels, 99, 0.1, classes), labels)
    return runs.sweep(recipe)


def attach(runs: Runs) -> None:
    """What a second look leaves beside every student's predictions."""
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    images = {place: png(grey + np.uint8(place % 7)) for place in range(300)}
    names = tuple(f"class {k}" for k in range(10))
    layers = ("stage1", "logits")
    for folder in runs.folder.iterdir():
        if not (folder / "predictions.safetensors").exists():
            continue
        (folder / "analysis").mkdir()
        write(folder / "analysis" / "pictures.json", pictures_json(Pictures("key", names, images)))
        tables = np.array([[0.5, 0.25], [np.nan, 0.125]]), np.array([[0.75, 0.5], [0.25, 1.0]])
        write(folder / "analysis" / "cka.json", similarity_json(Similarity("key", layers, layers, *tables, 256)))


def twins(folder: Path) -> list[Path]:
    """Two sweeps of one recipe, in folders of their own."""
    files: list[Path] = []
    for place in ("a", "b"):
        (folder / place).mkdir()
        runs = Runs(folder / place)
        runs.run("hard", 1, 0.9)
        files.append(runs.sweep())
    return files
