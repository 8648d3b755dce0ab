"""`deploy completion bash|zsh|fish`: a script that asks `deploy completion query LINE` at each TAB.

Answers come from the config files and the schema alone, without Hydra, so that a TAB is quick.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deployer.config.recipe_file import BLOCK, known_recipes
from deployer.config.suggest import way_out
from deployer.config.tree import ConfigTree, config_tree
from deployer.errors import EXIT_OK, UsageError
from deployer.sub_verbs import WITH_SUB_VERBS, sub_verbs
from deployer.verbs import VERBS

BASH = """\
# eval "$(deploy completion bash)"
_deploy() {
    local line="${COMP_LINE:0:COMP_POINT}"
    local word="${line##*[[:space:]]}"
    mapfile -t COMPREPLY < <(deploy completion query "$line" 2>/dev/null)
    # bash splits words at "=": hand it only what follows
    if [[ $word == *=* && $COMP_WORDBREAKS == *"="* ]]; then
        COMPREPLY=("${COMPREPLY[@]#"${word%=*}="}")
    fi
    [[ ${COMPREPLY[0]-} == *= ]] && compopt -o nospace 2>/dev/null
    return 0
}
complete -F _deploy deploy
"""
ZSH = """\
# eval "$(deploy completion zsh)"
_deploy() {
    local -a found
    found=("${(@f)$(deploy completion query "$LBUFFER" 2>/dev/null)}")
    compadd -Q -S '' -- ${found:#}
}
compdef _deploy deploy
"""
FISH = """\
# deploy completion fish | source
complete -c deploy -f -a '(deploy completion query (commandline -cp) 2>/dev/null)'
"""
SCRIPTS = {"bash": BASH, "fish": FISH, "zsh": ZSH}
FLAGS = ("--config-dir", "--help", "--multirun", "--version")


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the script of a shell, or the completions of a command line."""
    if len(words) == 2 and words[0] == "query":
        print("\n".join(candidates(words[1], config_tree(None, config_dirs))))
        return EXIT_OK
    if len(words) != 1 or words[0] not in SCRIPTS:
        got = words[0] if words else ""
        raise UsageError(f"`deploy completion {got}`: {way_out(got, SCRIPTS, kind='shells')}")
    print(SCRIPTS[words[0]], end="")
    return EXIT_OK


def candidates(line: str, tree: ConfigTree) -> list[str]:
    """Return what the last word of a command line may become, sorted."""
    words = line.split()[1:]
    word = "" if line.endswith((" ", "\t")) or not words else words.pop()
    key, equals, _ = word.partition("=")
    found = _values(key, tree) if equals else _names(words, word, tree)
    return sorted({name for name in found if name.startswith(word)})


def _names(before: Sequence[str], word: str, tree: ConfigTree) -> Iterator[str]:
    sign = "+" if word.startswith("+") else ""
    if not before:
        yield from VERBS
    elif before[0] in WITH_SUB_VERBS and len(before) == 1:
        yield from sub_verbs(before[0])
        return
    elif before[0] == "completion":
        yield from SCRIPTS
        return
    elif before[0] == "list":
        yield from (f"{group}s" if group in ("model", "engine") else group for group in tree.groups())
        return
    yield from (f"{sign}{group}=" for group in tree.groups())
    yield from ("+model=", "+recipe=")
    if word.startswith("-"):
        yield from FLAGS
    tail = "" if before[:1] == ["explain"] else "="
    yield from (f"{sign}{key}{tail}" for key, _ in _schema_keys())


def _values(key: str, tree: ConfigTree) -> Iterator[str]:
    bare = key.lstrip("+")
    if bare == BLOCK:
        yield from (f"{key}={name}" for name in known_recipes([]))
    if tree.is_group(bare):
        yield from (f"{key}={option}" for option in tree.options(bare))
    hint = dict(_schema_keys()).get(bare)
    yield from (f"{key}={value}" for value in _choices(hint))


def _choices(hint: Any) -> list[str]:
    arms = [arm for arm in get_args(hint) if arm is not NoneType] if NoneType in get_args(hint) else [hint]
    if get_origin(arms[0]) is Literal:
        return [str(value) for value in get_args(arms[0])]
    return ["false", "true"] if arms[0] is bool else []


def _schema_keys() -> Iterator[tuple[str, Any]]:
    """Yield each key of the schema with its type."""
    from deployer.config.arms import arms_of
    from deployer.config.schema import DeployConfig

    found: dict[str, Any] = {}
    for group, hint in get_type_hints(DeployConfig).items():
        for arm in arms_of(hint):
            hints = get_type_hints(arm)
            for field in fields(arm):
                found.setdefault(f"{group}.{field.name}", hints[field.name])
    yield from found.items()
