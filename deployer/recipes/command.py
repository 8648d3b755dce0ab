"""`deploy recipe <sub-verb> ...`: which sub-verbs there are, and what a recipe is called by."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deployer.config.recipe_file import find_recipe
from deployer.config.words import is_recipe_file
from deployer.errors import UsageError
from deployer.recipes.lock_file import SUFFIX, recipe_path
from deployer.sub_verbs import SubVerb, run_sub_verb
from deployer.typed_path import typed_path

SUB_VERBS: Mapping[str, SubVerb] = {
    "list": SubVerb(
        words="[hardware=NAME]", summary="print the recipes there are", run="deployer.recipes.listing:run"
    ),
    "show": SubVerb(
        words="RECIPE",
        summary="print one: what it is for and what it reaches",
        run="deployer.recipes.show:run",
    ),
    "new": SubVerb(
        words="FILE [+model=x key=value ... | from=RECIPE]",
        summary="write a recipe",
        run="deployer.recipes.new:run",
    ),
    "lock": SubVerb(
        words="RECIPE [smoke=false]",
        summary="write RECIPE.lock.json: config, hashes, versions, plan, an answer",
        run="deployer.recipes.lock:run",
    ),
    "verify": SubVerb(
        words="RECIPE [--offline] [machine=false] [smoke=false]",
        summary="hold the lock against files, software and machine",
        run="deployer.recipes.verify:run",
    ),
    "diff": SubVerb(
        words="A B",
        summary="print how two deployments differ, and what it means",
        run="deployer.recipes.diff:run",
    ),
    "upgrade": SubVerb(
        words="RECIPE [write=false] [smoke=false]",
        summary="resolve anew, show what moves, verify, write",
        run="deployer.recipes.upgrade:run",
    ),
    "drift": SubVerb(
        words="RECIPE --against URL",
        summary="compare what runs with what is locked; exit code 1 on drift",
        run="deployer.recipes.drift:run",
    ),
}


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Run one sub-verb."""
    return run_sub_verb("recipe", words, config_dirs)


def one_recipe(names: Sequence[str], config_dirs: Sequence[Path], *, verb: str) -> Path:
    """Return the recipe that a command names: a path, its lock, or a name. Raises UsageError, ConfigError."""
    if len(names) != 1:
        raise UsageError(f"`deploy {verb}` takes one recipe, a file or a name, and got {len(names)}")
    return recipe_of(names[0], config_dirs)


def recipe_of(name: str, config_dirs: Sequence[Path]) -> Path:
    """Return the file of a recipe given by its path, by its lock, or by name."""
    if name.endswith(SUFFIX):
        path = recipe_path(Path(name))
    elif is_recipe_file(name) or "/" in name:
        path = Path(name)
    else:
        return find_recipe(name, config_dirs)
    path = typed_path(path)
    if not path.is_file():
        raise UsageError(f"recipe `{path}`: there is no such file; `deploy recipe list` prints what ships")
    return path.resolve()
