"""A command of LMDeploy -> the overrides that ask for the same here, and what has no counterpart."""

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from deployer.config.override_text import override_text
from deployer.config.repositories import options_by_repository
from deployer.config.suggest import near, quoted, way_out
from deployer.config.tree import ConfigTree
from deployer.errors import UsageError
from deployer.lmdeploy.flags import Flag
from deployer.lmdeploy.programs import ELSEWHERE, PROGRAMS, Program
from deployer.typed_path import names_folder, typed_path

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One flag and what became of it."""

    flag: str  # as typed, with its values
    words: tuple[str, ...]  # overrides; empty: none
    note: str  # what to know; may be empty


@dataclass(frozen=True, kw_only=True, slots=True)
class Translation:
    """A whole command."""

    verb: str
    words: tuple[str, ...]
    lines: tuple[Line, ...]
    remarks: tuple[str, ...]
    environment: tuple[str, ...] = ()  # NAME=VALUE in front of the command, kept there

    @property
    def command(self) -> str:
        """The command of ours, for a shell."""
        words = " ".join(map(_shell_word, ["deploy", *([self.verb] if self.verb else []), *self.words]))
        return " ".join([*map(_assignment, self.environment), words])


def translate(words: Sequence[str], tree: ConfigTree) -> Translation:
    """Read a command of LMDeploy. Raises UsageError with every flag it does not have."""
    before, words = _before(words)
    program, rest = _program(words)
    named: list[tuple[str, Line]] = []
    faults: list[str] = []
    models = []
    for flag, values in _split(rest, program):
        if flag is None:
            models += values
            continue
        name = flag.removeprefix("--").replace("_", "-")
        typed = " ".join([flag, *values])
        if name == "chat-template":
            named.append((name, _template(typed, values, tree)))
        elif name in program.flags:
            named.append((name, _line(typed, program.flags[name], values)))
        else:
            faults.append(f"`{flag}`: {way_out(name, program.flags, kind='flags', prefix='--')}")
    if len(models) != 1:
        faults.append(f"names {quoted(models) or 'no model'}: LMDeploy takes one model")
    if faults:
        raise UsageError("\n".join(f"lmdeploy command: {fault}" for fault in faults))
    model = _model(models[0], tree)
    defaults = [word for name, word in program.defaults.items() if name not in dict(named)]
    lines = list(_last_of_each(named))
    overrides = [*model.words, *program.fixed, *(word for line in lines for word in line.words), *defaults]
    remarks = tuple(
        remark.replace("{model}", override_text(models[0]))
        for name, remark in program.remarks.items()
        if name not in dict(named)
    )
    environment = tuple(word for word in before if _ASSIGNMENT.match(word))
    if len(environment) < len(before):
        out = f"left out: `{shlex.join(before)}`; containers: target=compose or kubernetes (docs/targets.md)"
        remarks = (*remarks, out)
        environment = ()
    return Translation(
        verb=program.verb,
        words=tuple(overrides),
        lines=(model, *lines),
        remarks=remarks,
        environment=environment,
    )


def _shell_word(word: str) -> str:
    """Return a word as it is typed: double quotes around single ones, where nothing else needs more."""
    return f'"{word}"' if "'" in word and not any(sign in word for sign in '"$`\\!') else shlex.quote(word)


def _assignment(word: str) -> str:
    """Return NAME=VALUE as a shell takes it in front of a command."""
    name, _, value = word.partition("=")
    return f"{name}={shlex.quote(value)}"


def _before(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what stands in front of `lmdeploy`, as variables or `docker run ...`, and the command itself."""
    at = next((at for at, word in enumerate(words) if Path(word).name == "lmdeploy"), 0)
    return list(words[:at]), list(words[at:])


def _program(words: Sequence[str]) -> tuple[Program, list[str]]:
    rest = list(words)
    if rest and Path(rest[0]).name == "lmdeploy":
        rest = rest[1:]
    for names, program in PROGRAMS.items():
        if tuple(rest[: len(names)]) == names:
            return program, rest[len(names) :]
    for names, counterpart in ELSEWHERE.items():
        if tuple(rest[: len(names)]) == names:
            raise UsageError(f"`lmdeploy {' '.join(names)}`: is not translated; {counterpart}")
    for names in PROGRAMS:
        if rest[:1] == [names[-1]]:
            raise UsageError(f"`lmdeploy {rest[0]}`: write `lmdeploy {' '.join(names)}`, as LMDeploy does")
    known = quoted(f"lmdeploy {' '.join(names)}" for names in PROGRAMS)
    raise UsageError(f"`{shlex.join(words)}`: is none of the commands that are read: {known}")


def _split(words: Sequence[str], program: Program) -> Iterator[tuple[str | None, list[str]]]:
    """Yield each flag with its values; positional words come with None. Raises UsageError for no value."""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if not word.startswith("-"):
            yield None, [word]
            continue
        flag, equals, value = word.partition("=")
        known = program.flags.get(flag.removeprefix("--").replace("_", "-"), Flag())
        values = [value] if equals else []
        most = {"switch": 0, "one": 1, "many": len(waiting)}[known.arity]
        while not equals and waiting and len(values) < most and not waiting[0].startswith("--"):
            values.append(waiting.pop(0))
        if not values and most:
            raise UsageError(f"lmdeploy command: `{flag}`: needs a value")
        yield flag, values


def _last_of_each(named: Sequence[tuple[str, Line]]) -> Iterator[Line]:
    """Yield all lines; of equal flags the last sets the key, as in LMDeploy."""
    last = {name: at for at, (name, _) in enumerate(named)}
    for at, (name, line) in enumerate(named):
        is_last = last[name] == at
        yield line if is_last else replace(line, words=(), note="given again: LMDeploy takes the last")


def _line(typed: str, flag: Flag, values: Sequence[str]) -> Line:
    value = " ".join(values) or "true"
    note = flag.note or ""
    if flag.dead is not None:
        effect = "it has one here" if flag.key else note
        note = f"without effect in LMDeploy {flag.dead}" + (f"; {effect}" if effect else "")
    if flag.words is not None:
        if value not in flag.words:
            known = quoted(flag.words)
            return Line(flag=typed, words=(), note=f"no counterpart for `{value}`; there is one for {known}")
        return Line(
            flag=typed, words=tuple(flag.words[value].split()), note=note or _nothing(flag.words[value])
        )
    if flag.key is None:
        return Line(flag=typed, words=(), note=note)
    if flag.key == "engine.rope_scaling_factor" and _NUMBER.fullmatch(value) and float(value) == 0:
        return Line(flag=typed, words=(), note="0 asks for no scaling, as here")
    if flag.unnamed is not None:
        values = [value if "=" in value else f"{flag.unnamed}={value}" for value in values]
    given = f"[{','.join(map(_text, values))}]" if flag.arity == "many" else _text(value)
    return Line(flag=typed, words=(f"{flag.key}={given}",), note=note)


def _nothing(words: str) -> str:
    return "" if words else "that is so here anyway"


def _text(value: str) -> str:
    """Return a value as the grammar of overrides takes it; numbers and the `true` of a switch are no text."""
    return value if value == "true" or _NUMBER.fullmatch(value) else override_text(value)


def _template(typed: str, values: Sequence[str], tree: ConfigTree) -> Line:
    (name,) = values
    if name.endswith(".json"):
        return Line(
            flag=typed, words=(f"chat_template.file={_text(name)}",), note="read as LMDeploy reads it"
        )
    if tree.has_option("chat_template", name):
        return Line(flag=typed, words=(f"chat_template={name}",), note="")
    rest = way_out(name, tree.options("chat_template"), kind="templates")
    return Line(flag=typed, words=(), note=f"no template of this name; {rest}; the model's own is taken")


def _model(name: str, tree: ConfigTree) -> Line:
    """Return the option of ours for a repository or a folder."""
    if "://" in name:
        raise UsageError(
            f"lmdeploy command: `{name}`: is a server and no model; it has a page of its own at `/`, and "
            f"`deploy chat chat.url={name}` talks to it"
        )
    known = options_by_repository(tree)
    if name.lower() in known:
        return Line(flag=name, words=(f"+model={known[name.lower()]}",), note="")
    if names_folder(typed_path(name)) or name.startswith(("/", "./", "../", "~")):
        return Line(
            flag=name, words=("+model=local", f"model.path={_text(name)}"), note="a folder of this machine"
        )
    return Line(
        flag=name,
        words=("+model=local", "model.path=DIR"),
        note=f"no option names this repository; download it and put its folder for DIR; {_near(name, known)}",
    )


def _near(name: str, known: dict[str, str]) -> str:
    close = near(name.lower(), known)
    nearest = f"nearest repositories: {quoted(close)}; " if close else ""
    return f"{nearest}`deploy list models` shows every model that has an option"
