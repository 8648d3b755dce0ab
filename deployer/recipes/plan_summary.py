"""The figures of a plan that a person compares, and nothing else of it."""

from typing import Any

from deployer.config.recipe_file import FIGURES
from deployer.plan.plan import Plan
from deployer.plan.workload import WorkloadTimes

# figure -> what it says, in the order in which it is read
MEANINGS = {
    "hardware": "hardware",
    "verdict": "verdict",
    "weights_bytes": "weights on each device",
    "workspace_bytes": "workspace on each device",
    "kv_bytes": "KV pages on each device",
    "page_bytes": "one KV page",
    "kv_tokens": "tokens that the KV pages hold",
    "batch": "priced requests at once",
    "first_token_ms": "first token of a lone request, ms",
    "token_ms": "a token of a lone request, ms",
    "tokens_per_s": "tokens a second, all requests",
    "requests_per_s": "requests a second",
}


def summary(plan: Plan) -> dict[str, Any]:
    """Return the figures of `MEANINGS`; times are the expected ones where the device was measured."""
    memory = plan.figures.memory
    times = plan.figures.at_expected or plan.figures.at_limit
    fitting = {
        "kv_tokens": memory.kv_tokens,
        "batch": times.batch,
        **_times(times),
        "limits": _times(plan.figures.at_limit),
    }
    return {
        "hardware": plan.case.hardware.name,
        "devices": plan.case.tp,
        "fits": plan.fits,
        "verdict": plan.verdict,
        "basis": "limit" if plan.figures.at_expected is None else "expected",
        "weights_bytes": memory.bytes_of("weights"),
        "workspace_bytes": memory.bytes_of("workspace"),
        "kv_bytes": memory.bytes_of("kv_cache"),
        "page_bytes": memory.page_bytes,
        **(fitting if plan.fits else {}),
    }


def on_one_basis(one: dict[str, Any], other: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return two summaries with times that compare: limits, where only one device was measured."""
    if one["basis"] == other["basis"]:
        return one, other
    return {**one, **one.get("limits", {})}, {**other, **other.get("limits", {})}


def _times(times: WorkloadTimes) -> dict[str, float]:
    return {
        "first_token_ms": round(times.first_token_ms, 2),
        "token_ms": round(times.token_ms, 3),
        "tokens_per_s": round(times.tokens_per_s, 1),
        "requests_per_s": round(times.requests_per_s, 3),
    }


def figures(values: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a summary that a recipe may expect."""
    return {name: values[name] for name in FIGURES if values.get(name)}
