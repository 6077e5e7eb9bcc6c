import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from potstill import machine as rules
from potstill import record
from potstill.errors import UserError
from potstill.execution import machine_for
from potstill.machine import Choices, Machine, Precision, cpu_flags, describe, differences, multiplies_bf16
from potstill.models import Network, build
from potstill.recipes.cifar100 import benchmark
from potstill.run import fingerprint

SMALL, MIDDLE, BIG = 999_999, 1_000_000, 5_000_000
LONG = rules.LONG_ENOUGH_TO_COMPILE
TILED = "amx_bf16" in cpu_flags() and shutil.which("g++") is not None


def cpu(
    mult_adds: int, precision: Precision = "auto", deterministic: bool = False, images: int = 0, **choices: Any
) -> Machine:
    return Choices(device="cpu", **choices).resolve(mult_adds, precision, deterministic, images=images)


@pytest.fixture
def settings():
    """What a machine sets for the whole process, put back afterwards."""
    cudnn = torch.backends.cudnn
    before = torch.get_num_threads(), cudnn.benchmark, cudnn.deterministic, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    yield
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(False)
    cudnn.benchmark, cudnn.deterministic = before[1:3]
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    if before[3] is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = before[3]


def test_tiny_students_get_one_thread_and_others_what_pytorch_chose():
    assert cpu(SMALL).threads == 1
    assert cpu(MIDDLE).threads == rules.DEFAULT_THREADS
    assert cpu(SMALL, threads=3).threads == cpu(BIG, threads=3).threads == 3


def test_the_rule_for_threads_does_not_depend_on_what_ran_before():
    code = """
import torch
from potstill.machine import Choices
tiny = Choices(device="cpu").resolve(10)
tiny.activate()
print(tiny.threads, torch.get_num_threads(), Choices(device="cpu").resolve(10**9).threads)
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert answer.stdout.split() == ["1", "1", "2"]


def test_precision_is_bf16_where_the_hardware_multiplies_it_and_the_student_is_big_enough():
    assert cpu(BIG - 1).precision == "fp32"
    assert cpu(BIG).precision == ("bf16" if multiplies_bf16("cpu") else "fp32")
    both: tuple[Precision, ...] = ("fp32", "bf16")
    for asked in both:  # What a run asks for holds, whatever the hardware.
        assert cpu(SMALL, asked).precision == cpu(BIG, asked).precision == asked


@pytest.mark.skipif(not os.path.exists("/proc/cpuinfo"), reason="the system tells no CPU flags")
def test_a_cpu_multiplies_bf16_when_its_flags_say_so():
    with open("/proc/cpuinfo") as file:
        flags = next((set(line.partition(":")[2].split()) for line in file if line.startswith("flags")), set[str]())
    assert cpu_flags() == flags & {"amx_bf16", "avx512_bf16", "avx512f", "avx2"}
    assert multiplies_bf16("cpu") == bool(flags & {"amx_bf16", "avx512_bf16"})
    assert not multiplies_bf16("mps")


def test_the_cpu_compiles_what_trains_long_on_tiles_and_else_what_it_is_asked_to():
    assert cpu(BIG, images=LONG).compile == cpu(SMALL, "bf16", images=LONG).compile == TILED
    assert not cpu(BIG, images=LONG - 1).compile
    assert not cpu(BIG, "fp32", images=LONG).compile
    assert not cpu(BIG, deterministic=True, images=LONG).compile
    assert not cpu(BIG, images=LONG, compile="off").compile
    assert cpu(SMALL, compile="on").compile


@pytest.mark.parametrize("gone", [{"CXX": "no-such-compiler"}, {"PATH": "/nowhere"}])
def test_nothing_is_compiled_by_rule_where_there_is_no_compiler(monkeypatch: pytest.MonkeyPatch, gone: dict[str, str]):
    for name, value in gone.items():
        monkeypatch.setenv(name, value)
    assert not Choices().resolve(BIG, images=LONG).compile
    assert Choices(compile="on").resolve(BIG).compile


def test_a_run_goes_on_as_it_was_begun_but_for_what_is_asked(tmp_path: Path):
    run = benchmark(method="kd").arms[0].run
    begun = Machine(device="cpu", precision="fp32", threads=3, compile=False, devices=2, fold=False)
    folder = record.folder_of(tmp_path, run.name, fingerprint(run))
    record.make_folder(folder)
    record.write_json(folder / "env.json", describe(begun))

    def now(**asked: Any) -> Machine:
        return machine_for(run, Choices(device="cpu", **asked), tmp_path)

    assert now() == begun
    assert now(threads=1) == replace(begun, threads=1)
    assert now(compile="on") == replace(begun, compile=True)
    assert now(devices=1) == replace(begun, devices=1, threads=rules.DEFAULT_THREADS)


def test_the_length_of_a_run_decides_whether_it_is_compiled(tmp_path: Path):
    run = benchmark(method="kd").arms[0].run
    short = replace(run, stages=tuple(replace(stage, epochs=10) for stage in run.stages))
    assert machine_for(run, Choices(device="cpu"), tmp_path).compile == TILED
    assert not machine_for(short, Choices(device="cpu"), tmp_path).compile


def test_the_device_is_the_fastest_there_is():
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    chosen = Choices().resolve(SMALL)
    assert chosen.device == best
    assert chosen.compile == (best == "cuda" and shutil.which("g++") is not None)
    assert not Choices().resolve(SMALL, deterministic=True).compile


def test_a_rule_is_a_function_of_what_is_asked_alone():
    assert cpu(MIDDLE) == cpu(MIDDLE) == Machine(device="cpu", threads=rules.DEFAULT_THREADS, fold=True)
    assert cpu(SMALL, "bf16", True) == Machine(device="cpu", precision="bf16", threads=1, deterministic=True, fold=True)


@pytest.mark.parametrize("threads", [0, -2])
def test_threads_are_counted_from_one(threads):
    with pytest.raises(UserError, match=rf"^--threads is {threads}; expected a whole number ≥ 1\.$"):
        Choices(threads=threads)


@pytest.mark.parametrize("name", ["tpu", "cuda", "CPU"])
def test_a_device_that_is_not_here_is_a_sentence(name):
    if name == "cuda" and torch.cuda.is_available():
        pytest.skip("CUDA is here")
    sentence = rf"^--device is '{name}', which is not here; this machine has: cpu(, cuda)?(, mps)?\.$"
    with pytest.raises(UserError, match=sentence):
        Choices(device=name).resolve(SMALL)


@pytest.mark.usefixtures("settings")
def test_activation_sets_threads_and_determinism_and_takes_them_back():
    Machine(threads=2, deterministic=True).activate()
    assert torch.get_num_threads() == 2
    assert torch.backends.cudnn.deterministic
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert not torch.are_deterministic_algorithms_enabled()  # A CPU's kernels are deterministic as they are.
    Machine(threads=1).activate()
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.deterministic


def test_a_placed_network_is_channels_last_with_the_same_values():
    network = build(Network("digits_conv", classes=10, channels=1))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert Machine().place(network) is network
    convolutions = [p for p in network.parameters() if p.ndim == 4]
    assert convolutions
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in convolutions)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.is_leaf and p.requires_grad for p in network.parameters())


def test_a_forward_pass_is_in_the_precision_of_the_machine():
    network, images = torch.nn.Linear(4, 3), torch.ones(2, 4)
    with Machine(precision="bf16").autocast():
        assert network(images).dtype == torch.bfloat16
    with Machine(precision="fp32").autocast():
        assert network(images).dtype == torch.float32


def test_a_description_is_json_and_holds_every_choice():
    machine = Machine(threads=3, precision="bf16")
    told = describe(machine)
    assert json.loads(json.dumps(told)) == told
    assert (
        Machine(**{key: told[key] for key in ("device", "precision", "threads", "compile", "deterministic")}) == machine
    )
    assert told["device_name"]
    assert told["cpu"]["flags"] == sorted(cpu_flags())
    assert told["versions"]["torch"] == str(torch.__version__)
    assert "cuda" not in told["versions"]


def test_differences_name_what_changed_and_nothing_else():
    before = describe(Machine())
    assert differences(before, describe(Machine())) == []
    now = describe(Machine(threads=4, precision="bf16"))
    assert differences(before, now) == ["precision: fp32 → bf16", "threads: 1 → 4"]
    older = {**before, "versions": {**before["versions"], "torch": "2.9.0"}, "commit": "abc"}
    (told,) = differences(older, before)
    assert told.startswith("versions: {")
    assert "2.9.0" in told
    without = {key: value for key, value in before.items() if key != "device_name"}
    assert differences(without, before) == [f"device_name: None → {before['device_name']}"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps memory as it likes")
def test_memory_of_tensors_that_are_gone_is_used_again_unless_the_user_said_how():
    code = """
import resource, torch
from potstill.machine import Machine
Machine().activate()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
new = 0
for _ in range(20):
    before = faults()
    torch.ones(50 * 2**20, dtype=torch.uint8)
    new += faults() - before > 100
print(new)
"""
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    as_the_user_said = {**plain, "MALLOC_MMAP_THRESHOLD_": "65536"}
    # A small object that comes to lie behind a freed tensor may cost one more page of each before the holes fit.
    for environment, pages in ((plain, range(1, 11)), (as_the_user_said, range(20, 21))):
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout
        assert int(told) in pages
