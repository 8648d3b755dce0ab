from dataclasses import replace
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

import pytest
from machines import CPU_BUILD, H200, NO_GPU

from deployer.config import devices, load_config
from deployer.config.devices import Machine, choose_engine, find_machine, probe_machine
from deployer.config.schema import EngineConfig
from deployer.errors import UnavailableError

TWO_GPUS = replace(NO_GPU, gpus=(H200, replace(H200, name="NVIDIA L40S", capability=(8, 9))))
NO_NPU = "ModuleNotFoundError: No module named 'torch_npu'"
ONE_NPU = replace(CPU_BUILD, num_npu=1, npu_error=None)


def engine(*words: str) -> EngineConfig:
    return load_config(["+model=internvl2_8b", *words]).engine


def refused(config: EngineConfig, machine: Machine) -> str:
    with pytest.raises(UnavailableError) as caught:
        choose_engine(config, probe=lambda: machine)
    return str(caught.value)


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (NO_GPU, "engine=auto -> pytorch on cpu: no CUDA GPU was found"),
        (CPU_BUILD, "engine=auto -> pytorch on cpu: torch 2.13.0+cpu is a CPU build"),
        (
            TWO_GPUS,
            "engine=auto -> turbomind on cuda: torch 2.13.0 sees 2 CUDA GPUs; our kernels have been run on",
        ),
        (
            replace(TWO_GPUS, kernels_error="ImportError: y"),
            "engine=auto -> pytorch on cuda: torch 2.13.0 sees 2 CUDA GPUs; engine=turbomind does not import",
        ),
        (ONE_NPU, "engine=auto -> pytorch on npu: torch_npu sees 1 NPU"),
    ],
)
def test_auto_says_what_it_chose_and_why(machine: Machine, reason: str) -> None:
    assert choose_engine(engine(), probe=lambda: machine).reason.startswith(reason)


def test_auto_leaves_gpus_on_which_our_kernels_have_not_run_to_pytorch() -> None:
    choice = choose_engine(engine("engine.tp=2"), probe=lambda: TWO_GPUS)
    assert choice.kind == "pytorch"
    assert choice.reason is not None and "has not been run on compute capability 8.9 yet" in choice.reason


def test_turbomind_without_a_gpu_says_so_and_takes_nothing_else() -> None:
    config = engine("engine=turbomind", "engine.tp=2")
    assert refused(config, NO_GPU).startswith(
        "engine=turbomind: it needs an NVIDIA GPU, and no CUDA GPU was found"
    )
    assert "torch 2.13.0+cpu is a CPU build" in refused(config, CPU_BUILD)


def test_too_few_gpus_are_counted() -> None:
    message = refused(engine("engine=turbomind", "engine.tp=4"), TWO_GPUS)
    assert message.startswith("engine.tp=4: splits the model over 4 devices, and 2 CUDA GPUs are here")
    assert "engine.tp=2" in refused(engine("engine.tp=2"), ONE_NPU)


def test_as_many_ranks_as_there_are_gpus_run() -> None:
    choice = choose_engine(engine("engine=turbomind", "engine.tp=2"), probe=lambda: TWO_GPUS)
    assert (choice.kind, choice.device) == ("turbomind", "cuda")


def test_a_device_that_was_asked_for_is_never_replaced() -> None:
    assert "engine.device_type=cuda" in refused(engine("engine=pytorch", "engine.device_type=cuda"), NO_GPU)
    assert "torch_npu does not import" in refused(engine("engine.device_type=npu"), TWO_GPUS)


def test_an_engine_on_a_cpu_asks_nobody() -> None:
    def never() -> Machine:
        raise AssertionError("torch was asked")

    choice = choose_engine(engine("engine=pytorch", "engine.device_type=cpu"), probe=never)
    assert (choice.kind, choice.device, choice.reason) == ("pytorch", "cpu", None)
    choice = choose_engine(engine("engine.device_type=cpu"), probe=never)
    assert (choice.kind, choice.device) == ("pytorch", "cpu")
    assert choice.reason == "engine=auto -> pytorch on cpu: engine.device_type=cpu"


def test_this_machine_can_be_asked() -> None:
    pytest.importorskip("torch", reason="the probe imports torch")
    machine = probe_machine()
    assert machine.torch and len(machine.gpus) >= 0
    assert find_machine() == replace(machine, kernels_error=find_machine().kernels_error)


@pytest.mark.parametrize(
    ("version", "npu", "asked"),
    [
        ("__version__ = '2.13.0+cpu'; cuda = hip = None", False, False),
        ("__version__ = '2.13.0+cpu'; cuda = hip = None", True, True),
        ("__version__ = '2.13.0'; cuda = '13.0'; hip = None", False, True),
        ("__version__ = '2.13.0'; cuda = None; hip = '6.4'", False, True),
        ("__version__ = '2.13.0'; cuda = None", False, True),
        (None, False, True),
    ],
)
def test_only_a_build_that_sees_a_device_is_imported(
    version: str | None, npu: bool, asked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "__init__.py").write_text("raise AssertionError('torch was imported')\n")
    if version is not None:
        (tmp_path / "version.py").write_text(version)
    spec = spec_from_file_location("torch", tmp_path / "__init__.py")

    def installed(name: str) -> ModuleSpec | None:
        return spec if name == "torch" or npu else None

    monkeypatch.setattr(devices, "find_spec", installed)
    monkeypatch.setattr(devices, "probe_machine", lambda: NO_GPU)
    assert find_machine() == (NO_GPU if asked else replace(CPU_BUILD, kernels_error=None, npu_error=NO_NPU))


def test_without_torch_there_is_nothing_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "find_spec", lambda name: None)
    with pytest.raises(UnavailableError, match="torch is not installed"):
        find_machine()
