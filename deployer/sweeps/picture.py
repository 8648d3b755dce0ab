"""The trade-off as a picture: pareto.png, and pareto.html, one file that needs nothing from elsewhere."""

import io
from collections.abc import Sequence
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from deployer.sweeps.figures import DIRECTIONS, LABELS
from deployer.sweeps.options import as_words
from deployer.sweeps.pareto import front
from deployer.sweeps.point import Result
from deployer.sweeps.run_folder import RunFolder
from deployer.sweeps.table import number, reasons, shown_figures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, OTHER = "#b3123f", "#9aa3ad"
MOST_PANELS = 3
LEAST_SPAN = 0.05  # of an axis, as a share of its largest figure: less is noise, and would look like a choice
MOST_NAMED = 8  # points whose words stand below the picture
NEEDS = "no picture: matplotlib is not installed; pip install 'vlm-deployer[sweep]', then deploy sweep show"


def write_pictures(run: RunFolder, results: Sequence[Result]) -> list[Path]:
    """Draw the measured points; returns what was written. Without matplotlib, nothing is."""
    if find_spec("matplotlib") is None:
        return []
    measured = [result for result in results if result.status == "done" and result.same_as is None]
    best = front(results, run.asked.options.objectives)
    figure = _drawn(run, measured, best)
    picture, page = run.path / "pareto.png", run.path / "pareto.html"
    figure.savefig(picture, dpi=150)
    vector = io.StringIO()
    figure.savefig(vector, format="svg", metadata={"Date": None, "Creator": None})
    svg = vector.getvalue()
    page.write_text(_page(run, results, best, svg[svg.index("<svg") :]), encoding="utf-8")
    return [picture, page]


def _drawn(run: RunFolder, measured: Sequence[Result], best: Sequence[int]) -> "Figure":
    """Return the first objective against each of the next ones, in panels side by side."""
    from matplotlib.figure import Figure  # not pyplot, which keeps state and looks for a screen

    objectives = run.asked.options.objectives
    across, *others = objectives if len(objectives) > 1 else ["", objectives[0]]
    others = others[:MOST_PANELS]
    named = [result for result in measured if result.number in best][:MOST_NAMED]
    below = 0.19 * (len(named) + 1)
    figure = Figure(figsize=(0.8 + 4.2 * len(others), 4.2 + below), layout="constrained")
    top, text = figure.subfigures(2, 1, height_ratios=[4.2, below], squeeze=False)[:, 0]
    for axes, name in zip(top.subplots(1, len(others), squeeze=False)[0], others, strict=True):
        _panel(axes, across, name, measured, best)
    top.suptitle(f"{run.path.name}: {len(measured)} points measured", fontsize=11)
    lines = [f"{result.number}: {' '.join(result.words)}" for result in named]
    text.text(0.02, 0.98, "\n".join(lines), va="top", fontsize=8, family="monospace")
    return figure


def _panel(axes: "Axes", across: str, name: str, measured: Sequence[Result], best: Sequence[int]) -> None:
    for result in measured:
        is_best = result.number in best
        x = result.figures[across] / LABELS[across][1] if across else float(result.number)
        y = result.figures[name] / LABELS[name][1]
        axes.scatter(
            [x],
            [y],
            s=46 if is_best else 30,
            color=BEST if is_best else "none",
            edgecolors=BEST if is_best else OTHER,
            zorder=3 if is_best else 2,
        )
        axes.annotate(
            str(result.number),
            (x, y),
            xytext=(5, 4),
            textcoords="offset points",
            fontsize=8,
            color=BEST if is_best else OTHER,
        )
    axes.set_xlabel(_axis_label(across) if across else "point")
    axes.set_ylabel(_axis_label(name))
    axes.margins(0.12)
    low, high = axes.get_ylim()
    if high - low < LEAST_SPAN * high:
        middle, half = (low + high) / 2, LEAST_SPAN * high / 2
        axes.set_ylim(middle - half, middle + half)
    axes.grid(visible=True, linewidth=0.4, color="#e3e6ea")
    axes.spines[["top", "right"]].set_visible(False)


def _axis_label(name: str) -> str:
    better = "more" if DIRECTIONS[name] == "maximize" else "less"
    return f"{LABELS[name][0]} ({better} is better)"


def _page(run: RunFolder, results: Sequence[Result], best: Sequence[int], svg: str) -> str:
    names = shown_figures(results, run.asked.options.objectives)
    rows = [
        {
            "number": result.number,
            "front": result.number in best,
            "same_as": result.same_as,
            "cells": [number(name, result.figures[name]) for name in names],
            "words": " ".join(result.words),
        }
        for result in results
        if result.status == "done"
    ]
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return environment.get_template("page.html.jinja").render(
        title=run.path.name,
        started=datetime.fromisoformat(run.asked.started).strftime("%Y-%m-%d %H:%M UTC"),
        words=" ".join([*run.asked.words, *as_words(run.asked.options)]),
        svg=svg,
        heads=[LABELS[name][0] for name in names],
        rows=rows,
        others=[
            {"reason": reason, "points": [f"{p.number}: {' '.join(p.words)} ({p.status})" for p in points]}
            for reason, points in reasons(results)
        ],
        about=next((result.about for result in results if result.about), {}),
    )
