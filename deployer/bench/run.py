"""`deploy bench`: the engine alone and a server in front of it, or a server that runs already; one table."""

import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from deployer.bench.http_clients import http_clients
from deployer.bench.machine import machine
from deployer.bench.measured import Measured, run_until_interrupted
from deployer.bench.offline import EngineBench, engine_bench
from deployer.bench.online import AskedServer, ask_server, chat_ask, served_model
from deployer.bench.options import BenchOptions, check_options, refuse_longer_than
from deployer.bench.report import print_report
from deployer.bench.samples import Figures, Sample, closed_loop, figures
from deployer.bench.token_run import run_tokens
from deployer.bench.token_server import engine_behind
from deployer.bench.workload import Ask, asks, words_for
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.deployment import Deployment
from deployer.plan.hardware import Hardware
from deployer.serve.logs import set_up_logs
from deployer.serve.own_server import own_server

FEW, MANY = 4, 68  # words of the two texts that tell how many tokens a word takes


def run(config: DeployConfig, options: BenchOptions, hardware: Hardware) -> int:
    """Measure and print; returns the exit code. Raises UnavailableError or EngineError where it cannot."""
    check_options(options)
    set_up_logs("warning")
    if options.prompts == "tokens":
        return run_tokens(config, options, hardware)
    measured: Measured[Figures] = Measured(rows=[], about=machine(), ready=None)
    code = run_until_interrupted(partial(_run, config, options, measured), measured)
    if measured.rows:
        print_report(measured.rows, measured.about, options, ready=measured.ready, out=sys.stdout)
    return code


async def _run(config: DeployConfig, options: BenchOptions, measured: Measured[Figures]) -> None:
    if options.url is not None:
        measured.about["server"] = options.url
        await _server_rows(options, options.url, measured, model=options.model_name)
        return
    deployment = Deployment.open(config, max_restarts=0)
    if deployment.model.spec.vision is None and options.images != "without":
        raise ConfigError(
            [f"bench.images={options.images}: model `{config.model.name}` reads text only; use without"]
        )
    measured.about |= {"model": config.model.name, "quantization": _formats(config)}
    if options.asks_engine:
        async with engine_bench(deployment, output_tokens=options.output_tokens) as bench:
            ready = bench.engine.ready
            assert ready is not None, "a started engine has said what it got"
            measured.ready = ready
            refuse_longer_than(ready.session_len, [options])
            engine = f"{deployment.choice.kind} on {ready.device}, {ready.dtype}, tp {config.engine.tp}"
            measured.about["engine"] = engine
            await _engine_rows(options, bench, measured)
    if options.asks_http:
        async with own_server(config) as url:
            await _server_rows(options, url, measured, model=None)


async def _engine_rows(options: BenchOptions, bench: EngineBench, measured: Measured[Figures]) -> None:
    async def tokens(text: str) -> int:
        return len((await bench.prepare(Ask(text=text, picture=None))).token_ids)

    words = await _words(options, tokens)

    async def measure(asked: Sequence[Ask], concurrency: int) -> tuple[list[Sample], float]:
        prompts = [await bench.prepare(ask) for ask in asked]
        return await closed_loop(prompts, concurrency, bench.ask)

    await _rows(options, "engine", words, measure, measured)


async def _server_rows(
    options: BenchOptions, url: str, measured: Measured[Figures], *, model: str | None
) -> None:
    server = AskedServer(url=url, api_key=options.api_key, timeout_s=options.timeout_s)
    most = max(options.concurrency)
    async with (
        server.client() as client,
        http_clients(server, clients=options.clients, most_at_once=most) as clients,
    ):
        name = model or await served_model(client)
        if options.url is None and measured.ready is None:  # the engine was not measured alone
            measured.ready = await engine_behind(client)

        async def tokens(text: str) -> int:
            ask = chat_ask(name, Ask(text=text, picture=None), output_tokens=1)
            return (await ask_server(client, ask)).prompt_tokens

        words = await _words(options, tokens)

        async def measure(asked: Sequence[Ask], concurrency: int) -> tuple[list[Sample], float]:
            bodies = [chat_ask(name, ask, output_tokens=options.output_tokens) for ask in asked]
            found = await clients.measure(bodies, concurrency)
            return [one.without_arrivals() for one in found.samples], found.seconds

        await _rows(options, "http", words, measure, measured)


async def _words(options: BenchOptions, tokens: Callable[[str], Awaitable[int]]) -> int:
    """Return how many words make the prompt that was asked for, by asking what two texts cost."""
    few, many = (
        asks(1, words=words, size=None, seed=options.seed, stream="count")[0].text for words in (FEW, MANY)
    )
    return words_for(
        options.prompt_tokens,
        tokens_of_few=await tokens(few),
        tokens_of_many=await tokens(many),
        few=FEW,
        many=MANY,
    )


async def _rows(
    options: BenchOptions,
    path: str,
    words: int,
    measure: Callable[[Sequence[Ask], int], Awaitable[tuple[list[Sample], float]]],
    measured: Measured[Figures],
) -> None:
    """Measure every concurrency, without and with a picture; the same asks on every path."""
    for image in {"without": (False,), "with": (True,), "both": (False, True)}[options.images]:
        size = (options.image_width, options.image_height) if image else None

        def asked(count: int, stream: str, size: tuple[int, int] | None = size) -> list[Ask]:
            return asks(count, words=words, size=size, seed=options.seed, stream=stream)

        if options.warmup:
            await measure(asked(options.warmup, "warmup"), 1)
        for concurrency in options.concurrency:
            print(
                f"{path}: {concurrency} at once, {'with' if image else 'without'} a picture", file=sys.stderr
            )
            samples, seconds = await measure(
                asked(options.requests or concurrency, f"row {concurrency}"), concurrency
            )
            measured.rows.append(figures(samples, seconds, path=path, image=image, concurrency=concurrency))


def _formats(config: DeployConfig) -> str:
    return f"weights {config.quantization.weights}, kv {config.quantization.kv}"
