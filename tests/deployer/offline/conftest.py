"""One pipeline on a tiny random checkpoint that most tests here share."""

from collections.abc import AsyncGenerator, Iterator
from pathlib import Path

import pytest
from fake_engine import FakeEngine
from offline import fake_pipeline, tiny_words
from PIL import Image, ImageDraw
from tiny_checkpoint import write_tiny_checkpoint

from deployer import Pipeline, pipeline
from deployer.offline.async_pipeline import AsyncPipeline


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def pipe(tiny_model: Path) -> Iterator[Pipeline]:
    with pipeline(tiny_model, *tiny_words()) as running:
        yield running


@pytest.fixture
def picture() -> Image.Image:
    image = Image.new("RGB", (60, 30), "white")
    ImageDraw.Draw(image).ellipse((5, 5, 25, 25), fill="red")
    return image


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    fake = FakeEngine()
    yield fake
    fake.pixels.close()


@pytest.fixture
async def fake(engine: FakeEngine) -> AsyncGenerator[AsyncPipeline, None]:
    async with fake_pipeline(engine) as started:
        yield started
