"""A checkpoint folder with the byte-level tokenizer, and a builder over it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from prompt_setup import TOKENIZERS, deploy_config, model_spec

from deployer.prompt.assemble import PromptBuilder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (TOKENIZERS / "byte_level").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def builder(folder: Path) -> Iterator[PromptBuilder]:
    builder = PromptBuilder(deploy_config(), model_spec(), folder)
    yield builder
    asyncio.run(builder.aclose())
