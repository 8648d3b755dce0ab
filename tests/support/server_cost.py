"""What the server itself costs: CPU time a request and a further token, the engine replaced by a script.

    PYTHONPATH=tests/support python tests/support/server_cost.py [REQUESTS, default 1200]

The prompts are those of `pocket_vl`; a picture is a PNG of 224 pixels that no other request has. The client
runs in a process of its own and reads raw bytes; only the server's CPU time is counted, of all its threads.
"""

import asyncio
import multiprocessing
import resource
import socket
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

import uvloop
from fake_engine import FakeEngine, Script
from sequences import sampling
from serving_configs import RUNNING
from storm.clients import bodies

from deployer.bench.machine import machine
from deployer.config.load import load_config
from deployer.config.schema import DeployConfig
from deployer.generation.open_model import open_model
from deployer.prompt.assemble import PromptBuilder
from deployer.serve.admission import Admission
from deployer.serve.app import create_app
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.listen import http_server
from deployer.serve.metrics import Metrics
from deployer.serve.service import Service
from deployer.table import print_table
from engines.messages import Reply, Submit

REQUESTS = 1200
MANY_TOKENS = 201
TEXT = b'{"messages":[{"role":"user","content":"What is it?"}],"max_tokens":%d,"stream":%b}'


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is asked for."""

    pictured: bool
    streamed: bool
    at_once: int  # connections, each with one request after the other

    def bodies(self, count: int, *, tokens: int, name: str) -> list[bytes]:
        """Return requests of so many tokens of answer; no other name has their pictures."""
        if not self.pictured:
            return [TEXT % (tokens, b"true" if self.streamed else b"false")] * count
        made = bodies(2 * count, stream=name, output_tokens=tokens)
        return made[int(self.streamed) :: 2]  # of each two, the second is streamed


class ScriptedEngine(FakeEngine):
    """A fake that keeps nothing of what it was asked."""

    async def submit(self, request: Submit) -> AsyncGenerator[Reply, None]:
        """Yield what the script says."""
        self.submits.clear()
        self.seen_pixels.clear()
        async for reply in super().submit(request):
            yield reply


async def main(requests: int) -> None:
    """Print the table."""
    config = load_config(["+model=pocket_vl"])
    model = open_model(config.model)
    prompts = PromptBuilder(config, model.spec, model.folder, uncut_pixels=0)
    engine_us = (await script_us(MANY_TOKENS) - await script_us(1)) / (MANY_TOKENS - 1)
    rows = []
    for pictured in (False, True):
        for streamed in (False, True):
            for at_once in (1, 64):
                work = Work(pictured=pictured, streamed=streamed, at_once=at_once)
                few = await cost_us(config, prompts, work, count=requests, tokens=1)
                many = await cost_us(config, prompts, work, count=requests // 4, tokens=MANY_TOKENS)
                token_us = (many - few) / (MANY_TOKENS - 1) - engine_us
                cells = ("picture" if pictured else "text", "yes" if streamed else "no", str(at_once))
                rows.append([*cells, f"{few / 1e3:.2f}", f"{token_us:.0f}"])
    await prompts.aclose()
    for name, value in machine().items():
        print(f"{name:10} {value}")
    print(f"{'script':10} its own {engine_us:.0f} us a token are taken off\n")
    heads = ("request", "streamed", "at once", "CPU ms, one token of answer", "us a further token")
    print_table(heads, rows, out=sys.stdout)


async def cost_us(
    config: DeployConfig, prompts: PromptBuilder, work: Work, *, count: int, tokens: int
) -> float:
    """Return the server's CPU microseconds a request."""
    engine, admission = scripted(), Admission(1000)
    service = Service(
        engine=engine, prompts=prompts, admission=admission,
        metrics=Metrics(engine=engine, admission=admission), model_name="pocket_vl", adapters=(),
        tracing=None, created=1,
        sampling=config.sampling, server=config.server, vision=config.vision, pricing=None,
        responses=KeptResponses.here(config.server.max_stored_bytes), running_as=RUNNING,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = http_server(create_app(service), config.server)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        port, name = listener.getsockname()[1], f"{work} {tokens}"
        await run_client(port, work, work.bodies(2 * work.at_once, tokens=tokens, name=f"{name} first"))
        asked = work.bodies(count, tokens=tokens, name=name)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await run_client(port, work, asked)
        after = resource.getrusage(resource.RUSAGE_SELF)
        server.should_exit = True
        await serving
    await engine.close()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent * 1e6 / count


async def run_client(port: int, work: Work, asked: Sequence[bytes]) -> None:
    """Run the client in its own process and wait for it."""
    spawn = multiprocessing.get_context("spawn")
    process = spawn.Process(target=ask, args=(port, asked, work.at_once))
    process.start()
    while process.is_alive():
        await asyncio.sleep(0.05)
    assert process.exitcode == 0, "the client got its answers"


def ask(port: int, asked: Sequence[bytes], at_once: int) -> None:
    """Send requests over kept connections, reading raw bytes."""
    waiting = iter(asked)

    async def worker() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for body in waiting:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            writer.write(head + body)
            answer = await reader.readuntil(b"\r\n\r\n")
            assert b" 200 OK" in answer, answer
            if b"chunked" in answer:
                await reader.readuntil(b"\r\n0\r\n\r\n")
            else:
                length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
        writer.close()

    async def all_of_them() -> None:
        await asyncio.gather(*(worker() for _ in range(at_once)))

    asyncio.run(all_of_them())


def scripted() -> ScriptedEngine:
    """Return an engine that answers one token a step for as long as it is asked."""
    return ScriptedEngine(script=lambda _: Script(text="abcdefghij" * 100, stop_token_id=None))


async def script_us(tokens: int, *, count: int = 50) -> float:
    """Return the CPU microseconds of the script and the task switches alone."""
    engine = scripted()
    how = sampling(max_new_tokens=tokens)
    request = Submit(request_id="x", token_ids=(1,), images=(), sampling=how, priority=0)
    begin = time.process_time()
    for _ in range(count):
        async for _ in engine.submit(request):
            pass
    spent = time.process_time() - begin
    await engine.close()
    return spent * 1e6 / count


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1]) if sys.argv[1:] else REQUESTS))
