"""Sub-verbs: what stands behind `deploy recipe` and `deploy sweep`."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

# verb -> the module whose SUB_VERBS are its own
WITH_SUB_VERBS = {"recipe": "deployer.recipes.command", "sweep": "deployer.sweeps.command"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SubVerb:
    """One thing to do."""

    words: str  # what follows it
    summary: str
    run: str  # module:function of (words, config_dirs), returns the exit code


def sub_verbs(verb: str) -> Mapping[str, SubVerb]:
    """Return the sub-verbs of a verb that has some."""
    found: Mapping[str, SubVerb] = import_module(WITH_SUB_VERBS[verb]).SUB_VERBS
    return found


def usage(verb: str) -> str:
    """Return one line a sub-verb."""
    known = sub_verbs(verb)
    lines = [f"deploy {verb} {name} {sub.words}".strip() for name, sub in known.items()]
    width = max(map(len, lines))
    return "\n".join(
        f"{line:{width}}  {sub.summary}" for line, sub in zip(lines, known.values(), strict=True)
    )
