"""What one verb of the command line is made of; the table of them is in `deployer/verbs.py`."""

from dataclasses import dataclass
from typing import Literal

DEPLOYMENT = "[recipe.yaml] [+model=<name>] [<group>=<option>] [<key>=<value>]"  # the usage of most verbs


@dataclass(frozen=True, kw_only=True, slots=True)
class OptionGroup:
    """A group of conf/ that only one verb reads; it is composed for no other."""

    name: str  # folder below conf/
    option: str  # where it starts from
    kind: str  # module:dataclass, frozen; its fields are the keys


@dataclass(frozen=True, kw_only=True, slots=True)
class Verb:
    """One command.

    `takes` says what the function gets first: `deployment` (the validated `DeployConfig`), `options`
    (nothing), `words` (what was typed after the verb, and the --config-dir folders) or `command` (words,
    and behind `--` a command of another program as it stands). The dataclasses of
    `groups` follow in their order; `output=x` is short for the first group's own `output`.
    """

    summary: str
    section: Literal["Run", "Understand", "Recipes", "Ship", "Make", "Measure", "Shell"]
    run: str  # module:function, returns the exit code
    takes: Literal["deployment", "options", "words", "command"] = "deployment"
    groups: tuple[OptionGroup, ...] = ()
    flags: tuple[str, ...] = ()  # `--name`, short for name=true; `--name=`, which takes the next word
    usage: str  # what follows the verb
    examples: tuple[tuple[str, str], ...]  # a command, and what it does
    instead: tuple[str, str] | None = None  # a word, and what runs as for `words` where it is given
    shown_keys: tuple[str, ...] = ()  # files of conf/ whose keys its help shows, beside its groups
