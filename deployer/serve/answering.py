"""What every process that answers does around its routes: their service is made, and at the end it drains."""

import logging
from collections.abc import Awaitable, Callable

from deployer.config.adapters import adapters_of
from deployer.generation.deployment import Deployment
from deployer.recipes.running import describe
from deployer.serve.admission import Admission
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.pricing import Pricing
from deployer.serve.service import Service
from deployer.serve.starting import Starting
from deployer.serve.stop_signals import Interrupted, StopSignals, unless

LAST_REPLIES_S = 0.5  # for answers of requests that the end cuts short
ABORT_GRACE_S = 2.0  # for the replies of requests that are aborted after the drain
log = logging.getLogger("deployer.serve")


def service_of(
    starting: Starting,
    deployment: Deployment,
    *,
    responses: KeptResponses | None = None,
    end_anywhere: Callable[[str], Awaitable[int]] | None = None,
) -> Service:
    """Return what the routes of a started deployment share.

    `responses`: None keeps them in this process. `end_anywhere` as in `Service`.
    """
    config = deployment.config
    assert deployment.engine.ready is not None, "a started engine has said what it got"
    return Service(
        engine=deployment.engine,
        prompts=deployment.prompts,
        admission=starting.admission,
        metrics=starting.metrics,
        tracing=starting.tracing,
        model_name=starting.model_name,
        adapters=tuple(adapter.name for adapter in adapters_of(config.engine.adapters)),
        created=starting.created,
        sampling=config.sampling,
        server=starting.config.server,
        vision=config.vision,
        responses=responses or KeptResponses.here(starting.config.server.max_stored_bytes),
        pricing=Pricing.of(config, deployment.model.spec, deployment.engine.ready),
        running_as=describe(deployment),
        end_anywhere=end_anywhere,
    )


def watch_limits(service: Service, *, device: str) -> None:
    """Show phases beside the limits of their device, or say that nobody knows these."""
    service.metrics.watch_limits(service.pricing)
    if service.pricing is None:
        log.info("metrics: no percentage of the physical limit: no option of conf/hardware is `%s`", device)


async def drain(service: Service, signals: StopSignals) -> None:
    """Let what runs end within `server.drain_s`, abort the rest; a second signal leaves it no time."""
    admission, limit_s = service.admission, service.server.drain_s
    log.info("draining: %d requests in flight, %g s at most", admission.in_flight, limit_s)
    try:
        if not await unless(signals.second, admission.drain(limit_s)):
            log.warning("%d requests are aborted: they outlived server.drain_s", admission.in_flight)
            service.abort_all()
            await unless(signals.second, admission.drain(ABORT_GRACE_S))
    except Interrupted:
        log.warning("%d requests are dropped: a second signal came", admission.in_flight)


async def drop(admission: Admission) -> None:
    """Answer what is left after the engine is gone: its replies go out first, the rest is cancelled."""
    if not await admission.drain(LAST_REPLIES_S):
        admission.drop()
        await admission.drain(LAST_REPLIES_S)
