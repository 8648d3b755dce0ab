"""Whether a point can run at all, asked before it does: the config's checks, this machine, the plan.

Nothing here holds torch: devices are asked for once, in a child process.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deployer.bench.options import BenchOptions, check_options
from deployer.bench.token_run import load_faults, loads_of
from deployer.config.compose import Composition, compose
from deployer.config.devices import EngineChoice, Machine, choose_engine, find_machine
from deployer.config.load import build_options, load_option, validate
from deployer.config.schema import DeployConfig
from deployer.config.words import group_of
from deployer.errors import ConfigError, UnavailableError
from deployer.generation.weight_format import check_weight_format
from deployer.plan.command import make_plan
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.recipes.machine import is_gpu_of
from deployer.verbs import VERBS
from engines.errors import EngineError

BENCH, PLAN = VERBS["bench"], VERBS["plan"]
NO_PRICE = "conf/hardware does not describe this device: points are not ruled out by memory"


@dataclass(frozen=True, kw_only=True, slots=True)
class Here:
    """What this machine has, asked once for all points."""

    machine: Machine
    memory_bytes: int  # of the machine itself
    num_devices: int  # GPUs that the sweep may use

    @classmethod
    def probe(cls) -> "Here":
        """Ask for this machine's devices. Raises UnavailableError without torch."""
        machine = find_machine()
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return cls(machine=machine, memory_bytes=memory, num_devices=len(machine.gpus))

    def with_devices(self, num_devices: int) -> "Here":
        """Return the same machine with so many GPUs to use."""
        return replace(self, num_devices=num_devices)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """What is known of a point before it runs."""

    refusal: str | None  # why it can't run; None: nothing says that
    hardware: str | None  # option that describes its device
    num_devices: int  # GPUs it takes; 0: it runs on the CPU


def judge(words: Sequence[str], config_dirs: Sequence[Path], here: Here) -> Verdict:
    """Return what the checks and the plan say of a point."""
    try:
        composition = compose(
            words,
            config_dirs=config_dirs,
            extra_groups={group.name: group.option for group in BENCH.groups},
        )
        config = validate(composition, BENCH)
        bench, hardware = (build_options(group, composition) for group in BENCH.groups)
        check_options(bench)
        choice = choose_engine(config.engine, probe=lambda: here.machine)
        named = any(group_of(word) == "hardware" for word in words)
        found = hardware if named or _recipe_names(composition) else device_here(composition, choice, here)
        refusal = _refusal(config, bench, choice, found, here)
    except (ConfigError, UnavailableError, EngineError) as error:
        return Verdict(refusal=str(error), hardware=None, num_devices=0)
    devices = 0 if choice.device == "cpu" else config.engine.tp
    return Verdict(refusal=refusal, hardware=found.name if found else None, num_devices=devices)


def device_here(composition: Composition, choice: EngineChoice, here: Here) -> Hardware | None:
    """Return the option of conf/hardware that describes what is here; None where none does."""
    known: list[Hardware] = [
        load_option(BENCH.groups[1], name) for name in composition.tree.options("hardware")
    ]
    if choice.device == "cpu":
        (cpu,) = (one for one in known if one.name == "cpu")
        return replace(cpu, memory_bytes=here.memory_bytes)
    fitting = [one for one in known if is_gpu_of(here.machine.gpus[0], one)]
    # An A100 of 80 GB has the memory of one of 40 GB as well: the largest that it has is what it is.
    return max(fitting, key=lambda one: one.memory_bytes, default=None)


def _recipe_names(composition: Composition) -> bool:
    return (composition.recipe or {}).get("hardware") is not None


def _refusal(
    config: DeployConfig, bench: BenchOptions, choice: EngineChoice, hardware: Hardware | None, here: Here
) -> str | None:
    if choice.device != "cpu" and config.engine.tp > here.num_devices:
        return (
            f"engine.tp={config.engine.tp}: sweep.devices gives {here.num_devices}; name more of them, "
            "or lower engine.tp"
        )
    if hardware is None:
        return None
    plan = make_plan(config, _priced(bench), hardware)
    if config.engine.load_format == "checkpoint":
        check_weight_format(config.quantization, plan.case.spec, origin=f"model `{config.model.name}`")
    faults = []
    if bench.prompts == "tokens":
        faults = list(load_faults(loads_of(bench), config, plan.case.spec))
    elif bench.images != "without" and plan.case.spec.vision is None:
        faults = [f"bench.images={bench.images}: model `{config.model.name}` reads text only; use without"]
    return "\n".join(faults) or (None if plan.fits else plan.verdict)


def _priced(bench: BenchOptions) -> PlanOptions:
    """Return the request of the benchmark as one that a plan prices."""
    options: PlanOptions = load_option(PLAN.groups[0], PLAN.groups[0].option)
    return replace(
        options,
        prompt_tokens=bench.prompt_tokens,
        output_tokens=bench.output_tokens,
        images=0 if bench.images == "without" else 1,
        image_size=[bench.image_width, bench.image_height],
    )
