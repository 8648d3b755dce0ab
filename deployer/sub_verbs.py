"""Sub-verbs: what stands behind `deploy recipe` and `deploy sweep`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from deployer.config.resolve import entry
from deployer.config.suggest import way_out
from deployer.errors import UsageError

# verb -> the module whose SUB_VERBS are its own
WITH_SUB_VERBS = {"recipe": "deployer.recipes.command", "sweep": "deployer.sweeps.command"}


@dataclass(frozen=True, kw_only=True, slots=True)
class SubVerb:
    """One thing to do."""

    words: str  # what follows it
    summary: str
    run: str  # module:function of (words, config_dirs), returns the exit code


def run_sub_verb(verb: str, words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Run the sub-verb that the first word names; without a word print what there is. Raises UsageError."""
    if not words:
        print(usage(verb), file=sys.stderr)
        return UsageError.exit_code
    name, *rest = words
    known = sub_verbs(verb)
    if name not in known:
        raise UsageError(f"unknown sub-verb `{name}`: {way_out(name, known, kind='sub-verbs')}")
    return int(entry(known[name].run)(rest, config_dirs))


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
