"""The two deployments that `deploy diff` compares: recipes, locks, overrides or a running server."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.config.compose import compose
from deployer.config.load import build_options, from_plain
from deployer.config.recipe_file import recipe_word
from deployer.errors import ConfigError, UsageError
from deployer.plan.hardware import Hardware
from deployer.plan.options import PlanOptions
from deployer.plan.plan import Plan
from deployer.recipes.command import recipe_of
from deployer.recipes.flat import public
from deployer.recipes.layers import set_by
from deployer.recipes.lock_file import SUFFIX, Lock, LockedModel, read_lock
from deployer.recipes.plan_summary import summary
from deployer.recipes.resolved import PLAN, plan_of, resolve
from deployer.recipes.running import fetch_running
from deployer.typed_path import typed_path

DEVICE = PLAN.groups[1].option  # what is planned for where nobody says
WAYS = "a recipe, a lock, +model=<name> with overrides, or the URL of a server"


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One deployment to compare."""

    name: str
    config: dict[str, Any]  # nested, without secrets
    origins: Mapping[str, str]  # key -> what set it; empty: not known
    facts: dict[str, str]  # what else is known of it: files, packages, kernels, an answer
    plan: dict[str, Any] | str  # its summary, or why there is none


def split_sides(words: Sequence[str]) -> list[list[str]]:
    """Return the words of each side: one starts where a deployment is named.

    One side alone stands against itself with the words that follow. Raises UsageError for other than two.
    """
    sides: list[list[str]] = []
    for word in words:
        if _names_one(word):
            sides.append([word])
        elif sides:
            sides[-1].append(word)
        else:
            raise UsageError(f"`{word}`: changes come after the deployment they change; first name {WAYS}")
    if len(sides) == 1 and len(sides[0]) > 1:
        return [sides[0][:1], sides[0]]
    if len(sides) != 2:
        raise UsageError(f"`deploy diff` compares two deployments and got {len(sides)}; each is {WAYS}")
    return sides


def open_sides(sides: Sequence[Sequence[str]], config_dirs: Sequence[Path]) -> tuple[Side, Side]:
    """Read both sides; a server is planned on the hardware of the other side, unless it is told another."""
    one, other = sides
    if _is_url(one[0]):
        second = open_side(other, config_dirs, hardware=DEVICE)
        return open_side(one, config_dirs, hardware=_hardware(second)), second
    first = open_side(one, config_dirs, hardware=DEVICE)
    return first, open_side(other, config_dirs, hardware=_hardware(first))


def open_side(words: Sequence[str], config_dirs: Sequence[Path], *, hardware: str) -> Side:
    """Read one side; `hardware` is what a server is planned on. Raises the errors of the front end."""
    first, *changes = words
    if _is_url(first):
        return _of_server(first, changes, config_dirs, hardware=hardware)
    if first.endswith(SUFFIX):
        if changes:
            raise UsageError(f"`{changes[0]}`: a lock is compared as it is; change the recipe beside it")
        return side_of_lock(read_lock(typed_path(first)), first, config_dirs)
    if "=" not in first:
        first = str(recipe_of(first, config_dirs))
    resolved = resolve([first, *changes], config_dirs)
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    return Side(
        name=" ".join(words),
        config=public(resolved.config),
        origins=set_by(resolved.composition),
        facts={},
        plan=summary(plan) if isinstance(plan, Plan) else plan,
    )


def side_of_lock(lock: Lock, name: str, config_dirs: Sequence[Path]) -> Side:
    """Return what a lock holds; its figures are planned anew, so that both sides are by one rule."""
    facts = {
        **_facts(lock.model, lock.packages, lock.kernels_sha256),
        "recipe.version": lock.recipe.version,
        **({} if lock.smoke is None else {"smoke.answer": lock.smoke.answer}),
    }
    plan = _plan(lock.config, lock.recipe.hardware, config_dirs)
    return Side(name=name, config=lock.config, origins={}, facts=facts, plan=plan)


def differing_facts(one: Side, other: Side) -> Iterator[tuple[str, str, str]]:
    """Yield what both sides tell of themselves and tell differently."""
    if not (one.facts and other.facts):
        return
    for name in sorted(one.facts.keys() | other.facts.keys()):
        was, now = one.facts.get(name, "-"), other.facts.get(name, "-")
        told_by_both = name in one.facts and name in other.facts
        if was != now and (told_by_both or name.endswith(".bytes") or name.startswith("packages.")):
            yield name, was, now


def _of_server(url: str, changes: Sequence[str], config_dirs: Sequence[Path], *, hardware: str) -> Side:
    texts = dict(word.split("=", 1) for word in changes)
    unknown = sorted(texts.keys() - {"api_key", "hardware"})
    if unknown:
        raise UsageError(
            f"`{unknown[0]}`: a server is compared as it is; it takes api_key= and hardware= only"
        )
    running = fetch_running(url, api_key=texts.get("api_key"))
    facts = _facts(running.model, running.packages, running.kernels_sha256)
    plan = _plan(running.config, texts.get("hardware", hardware), config_dirs)
    return Side(name=url, config=running.config, origins={}, facts=facts, plan=plan)


def _plan(config: Mapping[str, Any], hardware: str, config_dirs: Sequence[Path]) -> dict[str, Any] | str:
    groups = {"plan": "default", "hardware": hardware}
    composition = compose([], config_dirs=config_dirs, extra_groups=groups, alone=True)
    options, device = (build_options(group, composition) for group in PLAN.groups)
    assert isinstance(options, PlanOptions) and isinstance(device, Hardware), "the groups of `deploy plan`"
    try:
        plan = plan_of(from_plain(config), options, device)
    except ConfigError as error:
        return f"its config is of another version of this tool: {error.faults[0]}"
    return summary(plan) if isinstance(plan, Plan) else plan


def _facts(model: LockedModel, packages: Mapping[str, str], kernels: str) -> dict[str, str]:
    files: dict[str, str] = {}
    for name, file in model.files.items():
        files[f"files.{name}.bytes"] = f"{file.bytes:,}"
        if file.sha256 is not None:
            files[f"files.{name}.sha256"] = file.sha256[:12]
    return {
        **files,
        **{f"packages.{name}": text for name, text in packages.items()},
        "chat_template": f"{model.chat_template}, {model.chat_template_sha256[:12]}",
        "commit": str(model.commit),
        "kernels": kernels[:12],
        "tokenizer": model.tokenizer_sha256[:12],
    }


def _is_url(word: str) -> bool:
    return word.startswith(("http://", "https://"))


def _hardware(side: Side) -> str:
    return DEVICE if isinstance(side.plan, str) else str(side.plan["hardware"])


def _names_one(word: str) -> bool:
    if _is_url(word) or word.startswith(("+model=", "model=")) or recipe_word(word) is not None:
        return True
    return "=" not in word and not word.startswith("~")
