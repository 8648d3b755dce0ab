"""Loads of random ids over HTTP: what the engine's tokens a second come to at the clients of a server."""

import sys
from collections.abc import AsyncGenerator

import httpx
import msgspec

from deployer.bench.http_clients import http_clients
from deployer.bench.online import AskedServer, HttpAsk, ids_ask, served_model
from deployer.bench.options import BenchOptions
from deployer.bench.scrape import spent_at_rest
from deployer.bench.token_asks import TokenPrompts, row_stream
from deployer.bench.token_samples import TokenRow, token_row
from deployer.errors import UnavailableError
from deployer.recipes.running import PATH as RUNNING
from engines.messages import Ready


async def server_rows(
    server: AskedServer, options: BenchOptions, prompts: TokenPrompts, *, model: str | None
) -> AsyncGenerator[TokenRow, None]:
    """Measure every concurrency of a load, the requests of `token_run` through POST /v1/completions.

    Raises UnavailableError where a request is not answered.
    """
    async with (
        server.client() as client,
        http_clients(server, clients=options.clients, most_at_once=max(options.concurrency)) as clients,
    ):
        name = model or await served_model(client)

        def asked(count: int, stream: str) -> list[HttpAsk]:
            found = prompts.asks(options, count, stream=stream)
            return [ids_ask(name, one.token_ids, output_tokens=one.output_tokens) for one in found]

        if options.warmup:
            await clients.measure(asked(options.warmup, "warmup"), options.warmup)
        for concurrency in options.concurrency:
            print(f"{options.name}: {concurrency} at once over HTTP", file=sys.stderr, flush=True)
            asks = asked(options.requests or concurrency, row_stream(concurrency))
            before = await spent_at_rest(client)
            found = await clients.measure(asks, concurrency)
            after = await spent_at_rest(client)
            yield token_row(
                found.samples,
                found.seconds,
                load=options.name,
                concurrency=concurrency,
                path="http",
                before=before,
                after=after,
                client_cores=found.busiest,
            )


async def engine_behind(client: httpx.AsyncClient) -> Ready:
    """Return what the engine of a server of ours got at its start. Raises UnavailableError."""
    try:
        reply = await client.get(RUNNING)
        reply.raise_for_status()
        return msgspec.convert(reply.json()["engine"], Ready)
    except (httpx.HTTPError, ValueError, LookupError) as error:
        raise UnavailableError(f"{client.base_url}{RUNNING}: {error or type(error).__name__}") from error
