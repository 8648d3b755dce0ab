"""What `deploy serve` prints: what runs where, what its start cost, and how to ask it something."""

import json
import shlex
from collections.abc import Iterable

from deployer.config.schema import DeployConfig
from deployer.generation.open_model import OpenedModel
from deployer.serve.key_file import needs_key
from deployer.serve.listen import is_public
from engines.messages import Ready


def warnings(config: DeployConfig, model: OpenedModel) -> list[str]:
    """Return what a careful operator wants to know before the start."""
    lines = [f"model `{config.model.name}`: {line}; the checkpoint counts" for line in model.differences]
    if is_public(config.server.host) and not needs_key(config.server):
        lines.append(
            f"server.host={config.server.host} can be reached from other machines and server.api_keys is "
            "empty: everybody there may use it; set server.api_keys"
        )
    if config.engine.load_format == "random":
        lines.append("engine.load_format=random: the weights are random, every answer is noise")
    return [f"warning: {line}" for line in lines]


def listen_lines(url: str, grpc_address: str | None) -> list[str]:
    """Return where the server listens already, while its engine starts."""
    lines = [f"listen   {url} (503 until it is ready; GET /health says how far it is)"]
    return lines if grpc_address is None else [*lines, f"grpc     {grpc_address}"]


def start_lines(config: DeployConfig, model: OpenedModel, ready: Ready, *, engine: str) -> list[str]:
    """Return what runs in which formats, where the seconds of its start went, and what its memory holds."""
    phases = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in ready.phase_s.items())
    memory = ", ".join(f"{name} {_bytes(count)}" for name, count in sorted(ready.bytes_by_part.items()))
    quant, kv = model.spec.quantization, config.quantization.kv
    weights = "" if quant is None else f", {quant.format} weights"
    pages = f"{ready.num_pages} pages of {ready.page_tokens} tokens in {ready.dtype if kv == 'none' else kv}"
    return [
        f"model    {config.model.name}, {ready.session_len} tokens a session",
        f"engine   {engine} on {ready.device}, {ready.dtype}{weights}, tp {config.engine.tp}",
        f"cache    {pages}, {_bytes(ready.num_pages * ready.page_bytes)}",
        *([f"memory   {memory}"] if memory else []),
        *([f"start    {phases}"] if phases else []),
    ]


def ready_lines(
    url: str, model_name: str, *, needs_key: bool, gradio_address: str | None = None
) -> list[str]:
    """Return where the server and its Gradio chat are, and a command that gets an answer."""
    body = {"model": model_name, "messages": [{"role": "user", "content": "Hello"}]}
    head = "-H 'content-type: application/json'" + (" -H 'authorization: Bearer KEY'" if needs_key else "")
    return [
        *([] if gradio_address is None else [f"gradio   {gradio_address}"]),
        f"ready    {url}",
        f"try      curl {url}/v1/chat/completions {head} -d {shlex.quote(json.dumps(body))}",
    ]


def print_lines(lines: Iterable[str]) -> None:
    """Print each line at once: who reads them waits for one."""
    for line in lines:
        print(line, flush=True)


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
