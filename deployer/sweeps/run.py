"""`deploy sweep run`, `resume` and `show`: from words to points, tables and pictures."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from deployer.config.compose import compose
from deployer.config.load import build_options
from deployer.config.recipe_file import find_recipe, recipe_word
from deployer.config.tree import ConfigTree, config_tree
from deployer.config.words import group_of, is_recipe_file
from deployer.errors import EXIT_INTERRUPTED, EXIT_OK, InfeasibleError, UnavailableError
from deployer.output import Output, take_output
from deployer.recipes.options import take_words
from deployer.sweeps.command import one_run
from deployer.sweeps.execute import Command
from deployer.sweeps.feasible import NO_PRICE, Here, Verdict, judge
from deployer.sweeps.options import SweepOptions, check_options
from deployer.sweeps.picture import NEEDS, write_pictures
from deployer.sweeps.point import Point, Result
from deployer.sweeps.progress import Progress
from deployer.sweeps.run_folder import RunFolder, create_run, open_run
from deployer.sweeps.runner import Runner
from deployer.sweeps.search import Search
from deployer.sweeps.slots import Slots, gpus_to_use
from deployer.sweeps.source import Grid, Source
from deployer.sweeps.space import Space, read_space, refuse_intervals
from deployer.sweeps.table import print_json, print_points, write_tables
from deployer.typed_path import typed_path
from deployer.verbs import VERBS


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sweep:
    """What a run needs beside its folder."""

    space: Space
    here: Here
    gpus: list[int]


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Measure every point of a new run."""
    output, words = take_output(words)
    own = [word for word in words if group_of(word) == "sweep"]
    (group,) = VERBS["sweep"].groups
    options: SweepOptions = build_options(
        group, compose(own, config_dirs=config_dirs, extra_groups={group.name: group.option}, alone=True)
    )
    check_options(options)
    words = [_absolute(word, config_dirs) for word in words if word not in own]
    sweep = _prepared(words, config_dirs, options)
    folder = typed_path(options.folder) / (options.name or _name(words))
    made = create_run(folder, words, list(config_dirs), options)
    return _go(made, sweep, output)


def resume(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Measure what a run has left."""
    output, words = take_output(words)
    taken = take_words(words, verb="sweep resume", switches={"failed": False})
    opened = open_run(one_run(taken.names, verb="sweep resume"))
    asked = opened.asked
    sweep = _prepared(asked.words, [Path(folder) for folder in asked.config_dirs], asked.options)
    if taken.switches["failed"]:
        with opened.held():
            for result in opened.results().values():
                if result.status == "failed":
                    opened.forget(result.number)
    return _go(opened, sweep, output)


def show(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Print the points of a run, and write its tables and pictures anew."""
    output, words = take_output(words)
    opened = open_run(one_run(take_words(words, verb="sweep show", switches={}).names, verb="sweep show"))
    return _told(opened, output)


def _prepared(words: Sequence[str], config_dirs: Sequence[Path], options: SweepOptions) -> _Sweep:
    space = read_space(words, _tree(words, config_dirs))
    if options.kind == "grid":
        refuse_intervals(space)
    here = Here.probe()
    gpus = gpus_to_use(options, len(here.machine.gpus))
    return _Sweep(space=space, here=here.with_devices(len(gpus)), gpus=gpus)


def _go(opened: RunFolder, sweep: _Sweep, output: Output) -> int:
    """Run what is not settled, then tell. Ctrl-C keeps what is."""
    asked = opened.asked
    folders = tuple(Path(folder) for folder in asked.config_dirs)
    command = Command(fixed=sweep.space.fixed, config_dirs=tuple(asked.config_dirs), options=asked.options)
    unpriced: set[str] = set()

    def judged(point: Point) -> Verdict:
        verdict = judge([*sweep.space.fixed, *point.words], folders, sweep.here)
        if verdict.refusal is None and verdict.hardware is None and not unpriced:
            unpriced.add(NO_PRICE)
            print(f"note: {NO_PRICE}", file=sys.stderr)
        return verdict

    with opened.held():
        settled = opened.results()
        source = _source(sweep.space, opened, settled)
        with Progress(total=source.total, settled=len(settled), out=sys.stderr) as progress:

            def settle(result: Result) -> None:
                opened.write(result)
                progress.settled(result)

            runner = Runner(
                source=source,
                slots=Slots(sweep.gpus),
                judge=judged,
                measure=lambda point, verdict, devices: command.measure(
                    point, verdict, devices, opened.log(point.number)
                ),
                settle=settle,
                begin=progress.begins,
                known={tuple(sorted(result.words)): result for result in settled.values()},
            )
            try:
                asyncio.run(runner.run())
            except KeyboardInterrupt:
                kept = len(opened.results())
                print(
                    f"interrupted: {kept} of {source.total} points are kept; go on with: "
                    f"deploy sweep resume {opened.path}",
                    file=sys.stderr,
                )
                return EXIT_INTERRUPTED
    return _told(opened, output)


def _source(space: Space, opened: RunFolder, settled: dict[int, Result]) -> Source:
    if opened.asked.options.kind == "grid":
        return Grid(space, settled)
    return Search(space, settled, opened.asked.options, opened.path)


def _told(opened: RunFolder, output: Output) -> int:
    """Print the table, write the files. Raises where nothing was measured."""
    results = [result for _, result in sorted(opened.results().items())]
    if output == "json":
        print_json(opened, results, out=sys.stdout)
    else:
        print_points(opened, results, out=sys.stdout)
    written = write_tables(opened, results)
    if any(result.status == "done" for result in results):
        pictures = write_pictures(opened, results)
        written += pictures
        if not pictures:
            print(f"note: {NEEDS} {opened.path}", file=sys.stderr)
    print("wrote " + " ".join(str(path) for path in written), file=sys.stderr)
    return _exit_code(opened, results)


def _exit_code(opened: RunFolder, results: Sequence[Result]) -> int:
    if any(result.status == "done" for result in results):
        return EXIT_OK
    if not results:
        raise UnavailableError(f"{opened.path}: holds no point yet; deploy sweep resume {opened.path}")
    if all(result.status == "pruned" for result in results):
        raise InfeasibleError(
            f"none of the {len(results)} points can run, for the reasons above; change what is common to "
            "them, or ask `deploy plan` what would fit"
        )
    raise UnavailableError(
        f"no point was measured, for the reasons above; what each said: {opened.path}/points/*.log"
    )


def _tree(words: Sequence[str], config_dirs: Sequence[Path]) -> ConfigTree:
    recipe = next(filter(is_recipe_file, words), None)
    return config_tree(recipe, config_dirs)


def _absolute(word: str, config_dirs: Sequence[Path]) -> str:
    """Return a recipe's word as a path that holds from any folder; other words as they are."""
    name = recipe_word(word)
    if name is not None:
        return str(find_recipe(name, config_dirs))
    if is_recipe_file(word):
        return str(typed_path(word).resolve())
    return word


def _name(words: Sequence[str]) -> str:
    """Return a name for a run: its recipe or model, and the time."""
    named = [word for word in words if group_of(word) == "model" or is_recipe_file(word)]
    first = named[0] if named else "sweep"
    what = Path(first).stem if "=" not in first else first.partition("=")[2]
    plain = "".join(letter if letter.isalnum() or letter in "_-." else "-" for letter in what)
    return f"{plain}-{datetime.now(UTC).strftime('%Y%m%d-%H%M%S')}"
