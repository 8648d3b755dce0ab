"""What a deployment takes from the machine that runs it, read off its plan; the same for every target."""

import math
from dataclasses import dataclass

from deployer.config.schema import DeployConfig
from deployer.errors import NoFitError
from deployer.plan.plan import Plan

PROBE_S = 10  # between two probes
ABORT_S = 15  # beside `server.drain_s`: aborted requests, the engine's end


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Resources and times of one replica."""

    name: str
    on_gpu: bool
    num_gpus: int
    checkpoint_bytes: int  # of all ranks
    host_bytes: int | None  # on a CPU: what was planned for; None on a GPU: the plan says nothing of the host
    is_downloaded: bool
    start_s: float  # of the engine, without a download
    stuck_s: float  # a server that is not well for longer is given up: a restart of its engine, a stuck step
    stop_s: float


def needs_of(config: DeployConfig, plan: Plan) -> Needs:
    """Return what one replica needs. Raises NoFitError where the engine would not start.

    A model whose sequences are shorter than the request that is priced is served all the same.
    """
    if plan.figures.memory.refusal is not None:
        ways = "; ".join(change.words for change in plan.ways_to_fit)
        raise NoFitError(f"{plan.model}: {plan.verdict}" + (f"; what would fit: {ways}" if ways else ""))
    rank_bytes = (
        plan.figures.memory.bytes_of("weights") - plan.case.second_copy.num_bytes
    )  # the copy is no file
    engine, on_gpu = config.engine, plan.case.hardware.kind == "gpu"
    return Needs(
        name=config.target.name or plan.model.replace("_", "-").replace(".", "-"),
        on_gpu=on_gpu,
        num_gpus=engine.tp if on_gpu else 0,
        checkpoint_bytes=rank_bytes * engine.tp,
        host_bytes=None if on_gpu else plan.case.hardware.memory_bytes,
        is_downloaded=config.model.hub in ("huggingface", "modelscope"),
        start_s=engine.start_timeout_s,
        stuck_s=engine.start_timeout_s + engine.step_timeout_s,
        stop_s=math.ceil(config.server.drain_s + ABORT_S),
    )


def probes_in(seconds: float) -> int:
    """Return how many probes fill a time."""
    return max(1, math.ceil(seconds / PROBE_S))
