"""The words of a command, taken apart: a verb, its flags as settings, a recipe, overrides."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from deployer.errors import UsageError
from deployer.typed_path import typed_path
from deployer.typed_words import as_lmdeploy, as_model, as_setting
from deployer.verb import Verb
from deployer.verbs import VERBS

DEFAULT_VERB = "serve"
MULTIRUN = ("-m", "--multirun")  # as Hydra spells it
FLAGS = "`--config-dir`, `--help`, `--multirun`, `--version`"


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What was typed, taken apart."""

    name: str
    verb: Verb
    words: list[str]  # overrides, recipe, and the bare words of a verb that takes them
    config_dirs: list[Path]


def parse(words: Sequence[str]) -> Command:
    """Take the words of a command apart. Raises UsageError for an unknown verb or flag."""
    words, command = split_command(words)
    rest: list[str] = []
    config_dirs: list[Path] = []
    is_sweep = False
    waiting = iter(words)
    for word in waiting:
        if word == "--config-dir":
            folder = next(waiting, None)
            if folder is None:
                raise UsageError("--config-dir: names a folder; write --config-dir DIR")
            config_dirs.append(typed_path(folder))
        elif word.startswith("--config-dir="):
            config_dirs.append(typed_path(word.partition("=")[2]))
        elif word in MULTIRUN:
            is_sweep = True
        else:
            rest.append(word)
    if is_sweep:
        rest = _sweep_words(rest)
    name = DEFAULT_VERB
    if rest and is_bare(rest[0]):
        name = rest.pop(0)
        if name not in VERBS:
            raise UsageError(unknown_verb(name))
    if command and VERBS[name].takes != "command":
        raise UsageError(f"unknown flag `--`: no other command stands behind `deploy {name}`")
    words = [*_without_flags(rest, VERBS[name]), *command]
    return Command(name=name, verb=VERBS[name], words=words, config_dirs=config_dirs)


def split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our own words, and `--` with the command of another program behind it."""
    at = list(words).index("--") if "--" in words else len(words)
    return list(words[:at]), list(words[at:])


def _sweep_words(rest: Sequence[str]) -> list[str]:
    """Return what `deploy -m bench ...` is short for. Raises UsageError for another verb."""
    verb = rest[0] if rest and is_bare(rest[0]) else DEFAULT_VERB
    if verb != "bench":
        raise UsageError(f"`deploy -m {verb}`: a sweep measures; write deploy -m bench +model=<name> key=a,b")
    return ["sweep", "run", *rest[1:]]


def _without_flags(words: Sequence[str], verb: Verb) -> Iterator[str]:
    """Yield the words with the verb's own flags in their key=value form. Raises UsageError for others."""
    waiting = iter(words)
    seen: set[str] = set()
    for word in waiting:
        flag, _, given = word.partition("=")
        if not word.startswith("-"):
            yield word
            continue
        if flag in seen:
            raise UsageError(f"{flag}: is given twice; keep one of them")
        seen.add(flag)
        if word in verb.flags:
            yield f"{word.removeprefix('--')}=true"
        elif f"{flag}=" in verb.flags:
            value = given or next(waiting, None)
            if value is None:
                raise UsageError(f"{flag}: needs a value; write {flag} VALUE")
            yield f"{flag.removeprefix('--')}={value}"
        elif verb.takes == "command":
            raise UsageError(f"unknown flag `{word}`: flags of the other command stand behind `--`")
        else:
            known = ", ".join([FLAGS, *(f"`{name.removesuffix('=')}`" for name in verb.flags)])
            value = given or next(waiting, None)
            shown = value if value is not None and is_bare(value) else None
            raise UsageError(f"unknown flag `{word}`: known flags: {known}; {as_setting(flag, shown)}")


def refuse_bare_words(command: Command) -> None:
    """Raise UsageError where a verb that reads settings alone was given other words."""
    from deployer.config.tree import config_tree

    bare = [word for word in command.words if is_bare(word)]
    if not bare:
        return
    hint = as_lmdeploy(bare)
    if len(bare) == 1 and hint is None:
        is_group = config_tree(None, ()).is_group(bare[0].partition(".")[0])
        hint = as_model(bare[0]) or (f"give it a value: {bare[0]}=<value>" if is_group else None)
    shown = ", ".join(f"`{word}`" for word in bare)
    rule = f"{shown}: after `deploy {command.name}` come key=value words only"
    raise UsageError(rule if hint is None else f"{rule}; {hint}")


def unknown_verb(name: str) -> str:
    """Return the message about a first word that is no verb."""
    from deployer.config.suggest import way_out

    hint = as_model(name) or as_lmdeploy([name])
    rest = hint or f"{way_out(name, VERBS, kind='verbs')}; `deploy --help` explains them"
    return f"unknown verb `{name}`: {rest}"


def is_bare(word: str) -> bool:
    return "=" not in word and not word.startswith(("+", "~", "-")) and not word.endswith((".yaml", ".yml"))
