"""`deploy bench` with `bench.prompts=tokens`: one engine, any number of loads, one table with its limits."""

import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import replace
from functools import partial

from deployer.bench.machine import machine
from deployer.bench.measured import Measured, run_until_interrupted
from deployer.bench.online import AskedServer
from deployer.bench.options import BenchOptions, check_options, refuse_longer_than
from deployer.bench.samples import closed_loop
from deployer.bench.token_asks import TokenPrompts, row_stream
from deployer.bench.token_engine import TokenBench, opened, token_bench
from deployer.bench.token_limits import Limits, is_that_device
from deployer.bench.token_report import print_token_report
from deployer.bench.token_samples import Spent, TokenRow, token_row
from deployer.bench.token_server import engine_behind, server_rows
from deployer.config.devices import EngineChoice
from deployer.config.load import load_option
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel
from deployer.plan.hardware import Hardware, check_hardware
from deployer.prompt.tokenizer import load_tokenizer
from deployer.recipes.flat import public
from deployer.serve.own_server import own_server
from deployer.verbs import VERBS
from engines.messages import Ready
from engines.spec import ModelSpec

TokenLoad = tuple[BenchOptions, TokenRow]


def run_tokens(config: DeployConfig, options: BenchOptions, hardware: Hardware) -> int:
    """Measure every load and print; returns the exit code.

    Raises as `opened`, EngineError for a failure of the engine alone, UnavailableError for one of a server.
    """
    check_hardware(hardware)
    loads = loads_of(options)
    model, choice = opened(config)
    faults = list(load_faults(loads, config, model.spec))
    if faults:
        raise ConfigError(faults)
    measured: Measured[TokenLoad] = Measured(rows=[], about={}, ready=None)
    work = partial(_measure, config, model, choice, loads, measured)
    code = run_until_interrupted(work, measured)
    if measured.rows:
        ready, known = measured.ready, None
        if ready is not None and is_that_device(hardware, ready.device):
            known = hardware
        limits = None if known is None else Limits.of(config, model.spec, known)
        about = _about(config, choice, ready, known) | measured.about
        as_run = public(replace(config, engine=replace(config.engine, kind=choice.kind)))
        print_token_report(
            measured.rows, about, limits, options, deployment=as_run, ready=ready, out=sys.stdout
        )
    return code


def loads_of(options: BenchOptions) -> list[BenchOptions]:
    """Return the options given and those of `bench.also`. Raises ConfigError."""
    (group,) = (group for group in VERBS["bench"].groups if group.name == "bench")
    loads = [options]
    for name in options.also:
        other: BenchOptions = load_option(group, name)
        if other.prompts != "tokens":
            raise ConfigError([f"bench.also={options.also}: `{name}` asks with texts; run it on its own"])
        other = replace(other, seed=options.seed, through=options.through, clients=options.clients)
        other = replace(other, url=options.url, model_name=options.model_name, api_key=options.api_key)
        check_options(other)
        loads.append(other)
    return loads


def load_faults(loads: Sequence[BenchOptions], config: DeployConfig, spec: ModelSpec) -> Iterator[str]:
    """Yield what keeps a deployment from being measured with these loads."""
    limits = {"engine.max_batch_size": config.engine.max_batch_size}
    if any(load.asks_http for load in loads):
        limits["server.max_requests"] = config.server.max_requests
    for load in loads:
        for name, most in limits.items():
            if load.url is None and max(load.concurrency) > most:
                yield (
                    f"bench.concurrency={load.concurrency} ({load.name}): {name}={most} lets no more run at "
                    f"once; set {name}={max(load.concurrency)}"
                )
    for load in loads:
        if load.images == "with" and spec.vision is None:
            yield (
                f"bench.images=with ({load.name}): model `{config.model.name}` reads text only; use without"
            )


async def _measure(
    config: DeployConfig,
    model: OpenedModel,
    choice: EngineChoice,
    loads: Sequence[BenchOptions],
    measured: Measured[TokenLoad],
) -> None:
    """Measure every load: with the engine alone, then through a server."""
    first = loads[0]  # the others ask the same way
    if first.asks_engine:
        await _measure_engine(config, model, choice, loads, measured)
    if first.url is not None:
        measured.about["server"] = first.url
        await _measure_server(first.url, config, model, loads, measured)
    elif first.asks_http:
        async with own_server(config) as url:
            await _measure_server(url, config, model, loads, measured)


async def _measure_engine(
    config: DeployConfig,
    model: OpenedModel,
    choice: EngineChoice,
    loads: Sequence[BenchOptions],
    measured: Measured[TokenLoad],
) -> None:
    timeout_s = max(load.timeout_s for load in loads)
    async with token_bench(config, model, choice, timeout_s=timeout_s) as bench:
        ready = measured.ready = bench.engine.ready
        assert ready is not None, "a started engine has said what it got"
        refuse_longer_than(ready.session_len, loads)
        for load in loads:
            async for row in _rows(bench, load):
                measured.rows.append((load, row))


async def _measure_server(
    url: str,
    config: DeployConfig,
    model: OpenedModel,
    loads: Sequence[BenchOptions],
    measured: Measured[TokenLoad],
) -> None:
    # A network may have rows that no token stands for, and a server refuses their ids.
    num_ids = load_tokenizer(model.folder).vocab_size if model.folder.is_dir() else None
    prompts = TokenPrompts(model.spec, config.vision, num_ids=num_ids)
    for load in loads:
        server = AskedServer(url=url, api_key=load.api_key, timeout_s=load.timeout_s)
        if load.url is None and measured.ready is None:  # the engine was not measured alone
            async with server.client() as client:
                measured.ready = await engine_behind(client)
        async for row in server_rows(server, load, prompts, model=load.model_name):
            measured.rows.append((load, row))


async def _rows(bench: TokenBench, options: BenchOptions) -> AsyncGenerator[TokenRow, None]:
    """Measure every concurrency of a load."""
    if options.warmup:
        asked = bench.prompts.asks(options, options.warmup, stream="warmup")
        await closed_loop(asked, options.warmup, bench.ask)
    for concurrency in options.concurrency:
        print(f"{options.name}: {concurrency} at once", file=sys.stderr, flush=True)
        asked = bench.prompts.asks(options, options.requests or concurrency, stream=row_stream(concurrency))
        before = await bench.settled()
        samples, seconds = await closed_loop(asked, concurrency, bench.ask)
        after = await bench.settled()
        yield token_row(
            samples,
            seconds,
            load=options.name,
            concurrency=concurrency,
            path="engine",
            before=Spent.of(before),
            after=Spent.of(after),
            client_cores=None,
        )


def _about(
    config: DeployConfig, choice: EngineChoice, ready: Ready | None, hardware: Hardware | None
) -> dict[str, str]:
    """Return what the figures depend on, beside the machine's own."""
    engine = config.engine
    about = {**machine(), "model": f"{config.model.name}, weights {engine.load_format}"}
    if ready is None:  # another's server: what it runs with is not ours to say
        return about
    phases = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in ready.phase_s.items())
    parts = ", ".join(f"{name} {count / 2**30:.2f} GiB" for name, count in ready.bytes_by_part.items())
    limit = "none: hardware=<name> does not describe this device; `deploy list hardware` shows what is known"
    if hardware is not None:
        limit = f"of one {hardware.name} ({hardware.basis}), conf/hardware/{hardware.name}.yaml"
    return {
        **about,
        "engine": f"{choice.kind} on {ready.device}, {ready.dtype}, tp {engine.tp}",
        "formats": f"weights {config.quantization.weights}, kv {config.quantization.kv}",
        "batch": f"max_batch_size {engine.max_batch_size}, "
        f"max_prefill_token_num {engine.max_prefill_token_num}, "
        f"prefix caching {'on' if engine.enable_prefix_caching else 'off'}, "
        f"{ready.num_pages} pages of {ready.page_tokens} tokens",
        "start": phases,
        "memory": parts,
        "limit": limit,
    }
