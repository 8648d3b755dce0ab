"""The command line: a verb (the first bare word, else `serve`), a recipe, overrides.

    deploy [verb] [recipe.yaml] [+model=name] [group=option] [key=value] [--config-dir DIR]

Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 a fault of ours, 2 usage, 3 invalid config,
4 a plan that does not fit, 5 not what was locked, 6 something this machine lacks, 130 interrupted;
`recipe drift` answers 1 where a server drifted. Nothing but this file and `verbs.py` is imported for --help.
"""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

from deployer.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNAVAILABLE, DeployError, UsageError
from deployer.full_disk import full_disk
from deployer.verb import Verb
from deployer.verbs import VERBS

DEFAULT_VERB = "serve"
MULTIRUN = ("-m", "--multirun")  # as Hydra spells it
FLAGS = "`--config-dir`, `--help`, `--multirun`, `--version`"

HELP_HEAD = """\
usage: deploy [verb] [recipe.yaml] [+model=<name>] [<group>=<option>] [<key>=<value>] [--config-dir DIR]

  deploy +model=pocket_vl                                    serve the model that ships, on 127.0.0.1:23333
  deploy +model=internvl2_8b engine=turbomind engine.tp=2    choose the engine, split over two GPUs
  deploy +recipe=pocket_vl_cpu server.port=8000              serve a recipe that ships, changed
  deploy explain engine.tp +model=internvl2_8b               see what set a value
  deploy -m bench +model=pocket_vl engine.max_batch_size=8,16   measure several deployments
"""
HELP_TAIL = """
  --config-dir DIR  more config folders, searched before ours (repeatable)
  -m, --multirun    with bench: sweep over key=a,b, key=range(a,b), key=choice(a,b), group=glob(x*)
  --version         print the version
  --help            print this; after a verb: its usage, examples and keys

`model=x` and `+model=x` mean the same. A recipe is a word that ends in .yaml, or +recipe=<name>.
NO_COLOR=1: no colour.
Exit codes: 0 done, 1 a fault of ours, 2 usage, 3 invalid config, 4 plan does not fit, 5 not what was locked,
6 something is missing, 130 interrupted.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What was typed, taken apart."""

    name: str
    verb: Verb
    words: list[str]  # overrides, recipe, and the bare words of a verb that takes them
    config_dirs: list[Path]


class Terminated(KeyboardInterrupt):
    """SIGTERM came before the server listened for it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except DeployError as error:
        _print_errors(error, words)
        return error.exit_code
    except Terminated:
        print("ended by SIGTERM before the server was ready", file=sys.stderr)
        return EXIT_OK
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `deploy list models | head`
        _drop_output()
        return EXIT_OK
    except OSError as error:
        full = full_disk(error)
        if full is None:
            raise
        _print_errors(full, words)
        _drop_output()
        return full.exit_code


def _drop_output() -> None:
    """Let go of what could not be written, which the end of Python would try again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(words: Sequence[str]) -> Command:
    """Take the words of a command apart. Raises UsageError for an unknown verb or flag."""
    words, command = _split_command(words)
    rest: list[str] = []
    config_dirs: list[Path] = []
    is_sweep = False
    waiting = iter(words)
    for word in waiting:
        if word == "--config-dir":
            folder = next(waiting, None)
            if folder is None:
                raise UsageError("--config-dir: names a folder; write --config-dir DIR")
            config_dirs.append(Path(folder).expanduser())
        elif word.startswith("--config-dir="):
            config_dirs.append(Path(word.partition("=")[2]).expanduser())
        elif word in MULTIRUN:
            is_sweep = True
        else:
            rest.append(word)
    if is_sweep:
        rest = _sweep_words(rest)
    name = DEFAULT_VERB
    if rest and _is_bare(rest[0]):
        name = rest.pop(0)
        if name not in VERBS:
            raise UsageError(_unknown_verb(name))
    if command and VERBS[name].takes != "command":
        raise UsageError(f"unknown flag `--`: no other command stands behind `deploy {name}`")
    words = [*_without_flags(rest, VERBS[name]), *command]
    return Command(name=name, verb=VERBS[name], words=words, config_dirs=config_dirs)


def _split_command(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return our own words, and `--` with the command of another program behind it."""
    at = list(words).index("--") if "--" in words else len(words)
    return list(words[:at]), list(words[at:])


def _sweep_words(rest: Sequence[str]) -> list[str]:
    """Return what `deploy -m bench ...` is short for. Raises UsageError for another verb."""
    verb = rest[0] if rest and _is_bare(rest[0]) else DEFAULT_VERB
    if verb != "bench":
        raise UsageError(f"`deploy -m {verb}`: a sweep measures; write deploy -m bench +model=<name> key=a,b")
    return ["sweep", "run", *rest[1:]]


def _without_flags(words: Sequence[str], verb: Verb) -> Iterator[str]:
    """Yield the words with the verb's own flags in their key=value form. Raises UsageError for others."""
    waiting = iter(words)
    for word in waiting:
        flag, _, given = word.partition("=")
        if not word.startswith("-"):
            yield word
        elif word in verb.flags:
            yield f"{word.removeprefix('--')}=true"
        elif f"{flag}=" in verb.flags:
            value = given or next(waiting, None)
            if value is None:
                raise UsageError(f"{flag}: needs a value; write {flag} VALUE")
            yield f"{flag.removeprefix('--')}={value}"
        else:
            known = ", ".join([FLAGS, *(f"`{name.removesuffix('=')}`" for name in verb.flags)])
            value = given or next(waiting, None)
            shown = value if value is not None and _is_bare(value) else None
            raise UsageError(f"unknown flag `{word}`: known flags: {known}; {_as_setting(flag, shown)}")


def _dispatch(words: list[str]) -> int:
    own, _ = _split_command(words)
    if own[:1] == ["help"] or "-h" in own or "--help" in own:
        print(_help(own), end="")
        return EXIT_OK
    if words[:1] == ["--version"]:
        print(_version())
        return EXIT_OK
    if not words:
        return _no_model()
    command = parse(words)
    if command.verb.takes not in ("words", "command"):
        _refuse_bare_words(command)
    return _run(command)


def _run(command: Command) -> int:
    from deployer.config.resolve import entry
    from engines.errors import EngineError

    verb = command.verb
    if command.name == DEFAULT_VERB:
        signal.signal(signal.SIGTERM, _terminated)  # until the server has a loop that listens for it
    try:
        if verb.instead and any(word.startswith(f"{verb.instead[0]}=") for word in command.words):
            return int(entry(verb.instead[1])(command.words, command.config_dirs))
        if verb.takes in ("words", "command"):
            return int(entry(verb.run)(command.words, command.config_dirs))
        from deployer.config.load import load_for_verb

        return int(entry(verb.run)(*load_for_verb(verb, command.words, config_dirs=command.config_dirs)))
    except EngineError as error:
        _print_errors(error, command.words)
        return EXIT_UNAVAILABLE


def _terminated(*_: object) -> None:
    raise Terminated


def _help(words: Sequence[str]) -> str:
    """Return the help of the verb that is named, or the general one."""
    names = [word for word in words if word not in ("help", "-h", "--help") and _is_bare(word)]
    if not names:
        return help_text()
    if names[0] not in VERBS:
        raise UsageError(_unknown_verb(names[0]))
    from deployer.verb_help import verb_help

    return verb_help(names[0])


def help_text() -> str:
    """Return what --help prints."""
    lines = [HELP_HEAD]
    for section in ("Run", "Understand", "Recipes", "Ship", "Make", "Measure", "Shell"):
        verbs = [(name, verb) for name, verb in VERBS.items() if verb.section == section]
        if verbs:
            lines.append(f"{section}\n" + "".join(f"  {name:12} {verb.summary}\n" for name, verb in verbs))
    return "\n".join(lines) + HELP_TAIL


def _no_model() -> int:
    """Say which models there are, and how to start the one that ships."""
    from deployer.listing import print_models

    print("deploy +model=<name> starts one of these; pocket_vl ships with the package:\n", file=sys.stderr)
    print_models(sys.stdout)
    print("\nstart the one that ships: deploy +model=pocket_vl\nhelp: deploy --help", file=sys.stderr)
    return UsageError.exit_code


def _refuse_bare_words(command: Command) -> None:
    from deployer.config.tree import config_tree

    bare = [word for word in command.words if _is_bare(word)]
    if bare:
        shown = ", ".join(f"`{word}`" for word in bare)
        rule = f"{shown}: after `deploy {command.name}` come key=value words only"
        tree = config_tree(None, ())
        if len(bare) == 1 and tree.has_option("model", bare[0]):
            rule += f"; for the model write +model={bare[0]}"
        elif len(bare) == 1 and (tree.is_group(bare[0].partition(".")[0])):
            rule += f"; give it a value: {bare[0]}=<value>"
        raise UsageError(rule)


def _as_setting(flag: str, value: str | None) -> str:
    """Return how a setting is written, that of the same name where there is one: --port is server.port=.

    `value`: what was typed for it; None: nothing.
    """
    from deployer.config.arms import arms_of
    from deployer.config.schema import DeployConfig

    name = flag.strip("-").replace("-", "_")
    groups = get_type_hints(DeployConfig)
    keys = [group if group == name else f"{group}.{name}" for group in groups]
    found = [
        key
        for key, kind in zip(keys, groups.values(), strict=True)
        if key == name or any(name in get_type_hints(arm) for arm in arms_of(kind))
    ]
    if not found:
        return "settings read key=value"
    start = "+" if found[0] == "model" else ""  # as everywhere else: a deployment has no model of its own
    return f"settings read key=value: write {start}{found[0]}={value or '<value>'}"


def _unknown_verb(name: str) -> str:
    from deployer.config.suggest import way_out
    from deployer.config.tree import config_tree

    if config_tree(None, ()).has_option("model", name):
        return f"unknown verb `{name}`: it is a model; write deploy +model={name}"
    return f"unknown verb `{name}`: {way_out(name, VERBS, kind='verbs')}; `deploy --help` explains them"


def _is_bare(word: str) -> bool:
    return "=" not in word and not word.startswith(("+", "~", "-")) and not word.endswith((".yaml", ".yml"))


def _print_errors(error: Exception, words: Sequence[str]) -> None:
    from deployer.table import paint
    from deployer.typed_origin import with_origin

    for line in (str(error) or type(error).__name__).splitlines():
        print(f"{paint('error:', 'red', out=sys.stderr)} {with_origin(line, words)}", file=sys.stderr)


def _version() -> str:
    from deployer.package_version import package_version

    return f"vlm-deployer {package_version('vlm-deployer') or '(run from a checkout, not installed)'}"


if __name__ == "__main__":
    sys.exit(main())
