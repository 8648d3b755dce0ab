"""A tiny random checkpoint, and one server on it that most tests here share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import LiveServer, live_server
from tiny_checkpoint import write_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_words(tiny_model: Path) -> tuple[str, ...]:
    """The words that serve the tiny model on a CPU, with little memory."""
    return (
        "+model=local", f"model.path={tiny_model}", "engine=pytorch", "engine.device_type=cpu",
        "engine.num_gpu_blocks=512", "engine.cache_block_seq_len=16", "engine.max_batch_size=16",
        "server.model_name=tiny",
    )  # fmt: skip


@pytest.fixture(scope="session")
def server(tiny_words: tuple[str, ...]) -> Iterator[LiveServer]:
    with live_server(*tiny_words, "server.max_requests=24") as running:
        yield running
