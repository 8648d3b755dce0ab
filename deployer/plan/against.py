"""`deploy plan --against URL`: what a running server got and does, beside what the plan says of it.

The server tells its config (`/v1/deployment`), so the plan is made of exactly what runs there. Bytes are
those that the engine reported at its start; times are means over what it answered since (`/metrics`), and
the priced request is the mean of those requests.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TextIO

from deployer.config.load import from_plain
from deployer.config.schema import DeployConfig
from deployer.errors import EXIT_OK, ConfigError, UnavailableError
from deployer.output import take_output
from deployer.plan import against_bench
from deployer.plan.command import make_plan
from deployer.plan.compared import Compared, compared_bytes, print_compared
from deployer.plan.device_words import plan_words
from deployer.plan.options import PlanOptions
from deployer.plan.plan import Plan
from deployer.recipes.running import TIMEOUT_S, Running, fetch_running
from deployer.typed_path import typed_path

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """Means over the requests that a server answered since its start."""

    requests: int
    text_tokens: float
    images: float
    output_tokens: float
    first_token_ms: float | None
    token_ms: float | None
    step_ms: float | None  # of the engine's loop


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Ask, plan and print; a file instead of an address goes to `against_bench`."""
    output, words = take_output(words)
    texts = {key: value for key, _, value in (word.partition("=") for word in words)}
    url, api_key = texts["against"], texts.get("api_key")
    rest = [word for word in words if word.partition("=")[0] not in ("against", "api_key")]
    if "://" not in url:
        return against_bench.run(typed_path(url), rest, config_dirs, output)
    running = fetch_running(url, api_key=api_key)
    traffic = traffic_of(_figures(url))
    options, hardware = plan_words(rest, config_dirs, device=running.engine["device"], told_by="the server")
    plan = make_plan(_config(running, url), _priced(options, traffic), hardware)
    rows = compared(plan, running, traffic)
    if output == "json":
        told = [asdict(row) | {"difference": row.difference} for row in rows]
        report = {"schema": SCHEMA, "url": url, "model": plan.model, "hardware": hardware.name}
        print(json.dumps({**report, "traffic": asdict(traffic), "rows": told}, indent=2))
    else:
        _print(plan, rows, traffic, url, out=sys.stdout)
    return EXIT_OK


def compared(plan: Plan, running: Running, traffic: Traffic) -> list[Compared]:
    """Return every figure that both know."""
    times = plan.figures.at_expected or plan.figures.at_limit
    answered = traffic.requests > 0
    table = [
        (
            "first token, alone in the plan",
            times.first_token_ms if answered else None,
            traffic.first_token_ms,
        ),
        ("a token, alone in the plan", times.token_ms if answered else None, traffic.token_ms),
        ("a step of the engine", None, traffic.step_ms),
    ]
    rows = [Compared(name=name, unit="ms", planned=p, measured=m) for name, p, m in table]
    return [*compared_bytes(plan, running.engine), *rows]


def traffic_of(figures: Mapping[str, float]) -> Traffic:
    """Return the means of a server's counters."""
    requests = figures.get("deployer_request_seconds_count", 0)

    def mean(counter: str) -> float:
        return figures.get(counter, 0) / requests if requests else 0.0

    def ms(total: str, count: str) -> float | None:
        number = figures.get(count, 0)
        return figures[total] / number * 1e3 if number else None

    return Traffic(
        requests=int(requests),
        text_tokens=mean("deployer_prompt_tokens_total") - mean("deployer_image_tokens_total"),
        images=mean("deployer_images_total"),
        output_tokens=mean("deployer_output_tokens_total"),
        first_token_ms=ms(
            "deployer_time_to_first_token_seconds_sum", "deployer_time_to_first_token_seconds_count"
        ),
        token_ms=ms(
            "deployer_time_per_output_token_seconds_sum", "deployer_time_per_output_token_seconds_count"
        ),
        step_ms=ms("deployer_engine_step_seconds_total", "deployer_engine_steps_total"),
    )


def _figures(url: str) -> dict[str, float]:
    """Return the samples of /metrics that have no label. Raises UnavailableError."""
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    address = url.rstrip("/") + "/metrics"
    try:
        reply = httpx.get(address, timeout=TIMEOUT_S)
        reply.raise_for_status()
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"{address}: {error or type(error).__name__}; times come from there"
        ) from error
    families = text_string_to_metric_families(reply.text)
    return {one.name: one.value for family in families for one in family.samples if not one.labels}


def _config(running: Running, url: str) -> DeployConfig:
    """Return the server's deployment, with the engine that it chose."""
    try:
        config = from_plain(running.config)
    except ConfigError as error:
        raise UnavailableError(
            f"{url}: its config is not one of this version ({error.faults[0]}); use the server's version"
        ) from error
    return replace(config, engine=replace(config.engine, kind=running.engine["kind"]))


def _priced(options: PlanOptions, traffic: Traffic) -> PlanOptions:
    if not traffic.requests:
        return options
    return replace(
        options,
        prompt_tokens=max(1, round(traffic.text_tokens)),
        output_tokens=max(1, round(traffic.output_tokens)),
        images=round(traffic.images),
    )


def _print(plan: Plan, rows: Sequence[Compared], traffic: Traffic, url: str, *, out: TextIO) -> None:
    basis = "expected" if plan.figures.at_expected else "limit"
    print(f"{url}: {plan.model}, planned for {plan.case.tp} x {plan.case.hardware.name} ({basis})", file=out)
    print(file=out)
    print_compared(rows, out=out)
    print(file=out)
    if plan.case.hardware.kind == "cpu":
        print("on a CPU weights are resident bytes, and the largest step is not measured", file=out)
    if not traffic.requests:
        print("no request was answered yet, so there are no times", file=out)
        return
    w = plan.figures.workload
    print(
        f"times: means over {traffic.requests} answered requests, whatever ran beside; the plan prices one "
        f"with {w.text_tokens} text tokens, {w.num_images} pictures, {w.output_tokens} tokens out",
        file=out,
    )
