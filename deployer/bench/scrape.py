"""What a server at some address says at /metrics of its engine's work and of its own CPU time."""

import asyncio
import time
from collections import defaultdict

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deployer.bench.token_samples import Spent
from deployer.errors import UnavailableError

SETTLE_S = 5.0  # how long the figures may be behind the last answer
_SPENT = (
    "deployer_engine_steps_total",
    "deployer_engine_step_seconds_total",
    "deployer_engine_wait_seconds_total",
    "deployer_engine_gap_seconds_total",
    "deployer_proposed_tokens_total",
    "deployer_accepted_tokens_total",
    "process_cpu_seconds_total",
)
_AT_WORK = ("deployer_sequences_running", "deployer_sequences_waiting")


async def spent_at_rest(client: httpx.AsyncClient) -> Spent | None:
    """Return what was spent once nothing runs any more; None from a server that is not ours.

    Raises UnavailableError where it does not come to rest.
    """
    deadline = time.monotonic() + SETTLE_S
    while time.monotonic() < deadline:
        figures = await _figures(client)
        if any(name not in figures for name in (*_SPENT, *_AT_WORK)):
            return None
        if not any(figures[name] for name in _AT_WORK):
            steps, step_s, wait_s, gap_s, proposed, accepted, cpu_s = (figures[name] for name in _SPENT)
            return Spent(
                steps=round(steps),
                step_s=step_s,
                wait_s=wait_s,
                gap_s=gap_s,
                proposed_tokens=round(proposed),
                accepted_tokens=round(accepted),
                server_cpu_s=cpu_s,
            )
        await asyncio.sleep(0.02)
    raise UnavailableError(
        f"{client.base_url}: its engine did not come to rest within {SETTLE_S:g} seconds; measure a server "
        "that nobody else asks"
    )


async def _figures(client: httpx.AsyncClient) -> dict[str, float]:
    """Return every sample without labels by its name; none where the server has no such page.

    A figure of each process of a server (`server.processes`) is added up.
    """
    try:
        reply = await client.get("/metrics")
    except httpx.HTTPError as error:
        raise UnavailableError(f"{client.base_url}: {error or type(error).__name__}") from error
    if reply.status_code != 200:
        return {}
    found: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families(reply.text):
        for sample in family.samples:
            if set(sample.labels) <= {"process"}:
                found[sample.name] += sample.value
    return dict(found)
