"""What the server itself costs: CPU time a request and a streamed token, the engine replaced by a script.

    PYTHONPATH=tests/support python tests/support/server_cost.py

The client runs in a process of its own; only the server's CPU time is counted.
"""

import asyncio
import multiprocessing
import resource
import socket
import time

import uvicorn
import uvloop
from fake_engine import FakeEngine, Script
from fake_prompts import FakePrompts
from serving_configs import RUNNING, SAMPLING, SERVER, VISION

from deployer.serve.admission import Admission
from deployer.serve.app import create_app
from deployer.serve.listen import http_server
from deployer.serve.metrics import Metrics
from deployer.serve.response_store import ResponseStore
from deployer.serve.service import Service

BODY = b'{"messages":[{"role":"user","content":"What is it?"}],"max_tokens":%d,"stream":%b}'


def ask(port: int, count: int, concurrency: int, body: bytes) -> None:
    """Send `count` requests over `concurrency` kept connections, reading raw bytes."""

    async def worker(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        for _ in range(number):
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
        await asyncio.gather(*(worker(count // concurrency) for _ in range(concurrency)))

    asyncio.run(all_of_them())


async def cost_us(*, tokens: int, count: int, concurrency: int, stream: bool, bunch: int = 1) -> float:
    """Return the server's CPU microseconds a request."""
    engine = FakeEngine(script=lambda _: Script(text="abcdefghij" * 100, bunch=bunch))
    admission = Admission(1000)
    service = Service(
        engine=engine, prompts=FakePrompts(), admission=admission,
        metrics=Metrics(engine=engine, admission=admission), model_name="tiny", adapters=(),
        tracing=None, created=1,
        sampling=SAMPLING, server=SERVER, vision=VISION, pricing=None,
        responses=ResponseStore(SERVER.max_stored_bytes), running_as=RUNNING,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = http_server(create_app(service), SERVER)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.01)
        port = listener.getsockname()[1]
        body = BODY % (tokens, b"true" if stream else b"false")
        await run_client(port, concurrency, concurrency, body)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await run_client(port, count, concurrency, body)
        after = resource.getrusage(resource.RUSAGE_SELF)
        server.should_exit = True
        await serving
    await engine.close()
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent * 1e6 / count


async def run_client(port: int, count: int, concurrency: int, body: bytes) -> None:
    """Run the client in its own process and wait for it."""
    process = multiprocessing.get_context("spawn").Process(target=ask, args=(port, count, concurrency, body))
    process.start()
    while process.is_alive():
        await asyncio.sleep(0.05)
    assert process.exitcode == 0


async def engine_us(*, tokens: int, bunch: int) -> float:
    """Return the CPU microseconds of the fake engine and the task switches alone."""
    from types import SimpleNamespace

    engine = FakeEngine(script=lambda _: Script(text="abcdefghij" * 100, bunch=bunch))
    request = SimpleNamespace(
        request_id="x",
        images=(),
        token_ids=(),
        sampling=SimpleNamespace(max_new_tokens=tokens, logprobs=None),
    )
    begun = time.process_time()
    for _ in range(50):
        async for _ in engine.submit(request):  # type: ignore[arg-type]
            pass
    await engine.close()
    return (time.process_time() - begun) * 1e6 / 50


async def main() -> None:
    """Print the table."""
    print(f"uvicorn {uvicorn.__version__}, loop {type(asyncio.get_running_loop()).__name__}")
    for stream in (False, True):
        for concurrency in (1, 64):
            few = await cost_us(tokens=1, count=1280, concurrency=concurrency, stream=stream)
            many = await cost_us(tokens=201, count=256, concurrency=concurrency, stream=stream)
            own = (await engine_us(tokens=201, bunch=1) - await engine_us(tokens=1, bunch=1)) / 200
            print(
                f"stream={stream!s:5} concurrency={concurrency:3}: {few:6.0f} us a request with one token, "
                f"{(many - few) / 200 - own:5.1f} us a further token (fake engine's {own:.1f} us taken off)"
            )


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())
