"""A server in a process of its own: what `deploy serve` runs, for benchmarks, smoke answers and `deploy up`.

python -m deployer.serve.own_server    reads a DeployConfig as JSON from standard input
"""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from deployer.config.load import from_plain
from deployer.config.schema import DeployConfig
from deployer.errors import DeployError, UnavailableError
from engines.errors import EngineError

STOP_S = 15.0


@asynccontextmanager
async def own_server(config: DeployConfig) -> AsyncGenerator[str, None]:
    """Start a server on a free port of this machine and yield its address; it ends with the block.

    Raises UnavailableError where it does not start; its own messages are on standard error.
    """
    server = replace(
        config.server,
        host="127.0.0.1",
        port=0,
        gradio_port=None,
        api_keys=[],
        api_keys_file=None,
        log_level="warning",
        drain_s=1,
        allow_random_weights=True,  # a benchmark is what they are for; nobody else asks this address
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "deployer.serve.own_server",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    try:
        process.stdin.write(msgspec.json.encode(replace(config, server=server)))
        process.stdin.close()
        async for line in process.stdout:
            if line.startswith(b"ready "):
                yield line.split()[1].decode()
                return
        raise UnavailableError("the server did not start; its messages stand above")
    finally:
        if process.returncode is None:
            process.terminate()
        try:
            await asyncio.wait_for(process.communicate(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def main() -> int:
    """Serve the config that stands on standard input."""
    from deployer.serve.run import run

    config = from_plain(msgspec.json.decode(sys.stdin.buffer.read()))
    try:
        return run(config)
    except (DeployError, EngineError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
