"""The words beside `deploy plan --against`: options of the plan, and the device where none is named."""

from collections.abc import Sequence
from pathlib import Path

from deployer.bench.token_limits import is_that_device
from deployer.config.compose import compose
from deployer.config.load import build_options, load_option
from deployer.config.tree import config_tree
from deployer.config.words import group_of
from deployer.errors import ConfigError, UsageError
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.verbs import VERBS

PLAN, HARDWARE = VERBS["plan"].groups


def plan_words(
    words: Sequence[str], config_dirs: Sequence[Path], *, device: str, told_by: str
) -> tuple[PlanOptions, Hardware]:
    """Return what the words say of plan and hardware; without a word the hardware is the device's own.

    `told_by`: who told the deployment, for messages. Raises ConfigError, UsageError.
    """
    groups = [PLAN, HARDWARE]
    names = [group.name for group in groups]
    others = [word for word in words if group_of(word) not in names]
    if others:
        raise ConfigError([f"`{word}`: {told_by} tells its own deployment; leave it out" for word in others])
    composition = compose(
        words,
        config_dirs=config_dirs,
        extra_groups={group.name: group.option for group in groups},
        alone=True,
    )
    options: PlanOptions = build_options(PLAN, composition)
    named: Hardware = build_options(HARDWARE, composition)
    if any(group_of(word) == HARDWARE.name for word in words):
        return options, named
    known: list[Hardware] = [
        load_option(HARDWARE, name) for name in config_tree(None, ()).options("hardware")
    ]
    found = [hardware for hardware in known if is_that_device(hardware, device)]
    if not found:
        raise UsageError(
            f"{told_by} ran on `{device}`, which conf/hardware does not describe; add hardware=<name>, see "
            "`deploy list hardware`"
        )
    return options, max(found, key=lambda hardware: hardware.memory_bytes)
