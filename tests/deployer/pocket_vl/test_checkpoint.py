"""The files that ship, and what the shipped model says about pictures that no generator drew."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageFont
from safetensors import safe_open

from deployer.bench.offline import engine_bench
from deployer.config.load import load_config
from deployer.generation.deployment import Deployment
from deployer.pocket_vl.evaluate import answer
from deployer.prompt.messages import Message

FOLDER = Path(__file__).parents[3] / "deployer" / "models" / "pocket_vl"


def row_of_shapes() -> Image.Image:
    """Return a red circle, a blue square and a green triangle side by side on white."""
    picture = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((60, 180, 200, 320), fill="red")
    draw.rectangle((260, 190, 380, 310), fill="blue")
    draw.polygon([(500, 180), (570, 310), (430, 310)], fill="green")
    return picture


def sign() -> Image.Image:
    """Return a red board that says STOP."""
    picture = Image.new("RGB", (400, 300), "white")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((60, 80, 340, 220), fill=(200, 0, 0), outline="black", width=4)
    draw.text((200, 150), "STOP", font=ImageFont.load_default(80), fill="white", anchor="mm")
    return picture


ROW_OF_SHAPES = (
    ("What colour is the circle?", "red"),
    ("What color is the triangle?", "green"),
    ("How many squares are there?", "1"),
    ("What is left of the square?", "a red circle"),
    ("What is right of the square?", "a green triangle"),
    ("What colour is the star?", "There is no star."),
    ("Describe the picture.", "a red circle, a blue square and a green triangle"),
)


def test_the_files_are_small_enough_to_ship() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 24_000_000
    with safe_open(FOLDER / "model.safetensors", "pt") as weights:
        shapes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 - no mapping
        dtypes = {weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
    assert dtypes == {"BF16"}
    total = 0
    for shape in shapes:
        size = 1
        for length in shape:
            size *= length
        total += size
    assert total <= 12_000_000


async def test_the_shipped_model_answers_about_pictures_drawn_by_hand() -> None:
    config = load_config(["+model=pocket_vl", "engine=pytorch", "engine.device_type=cpu"])
    async with engine_bench(Deployment.open(config, max_restarts=0), output_tokens=48) as bench:
        for question, right in ROW_OF_SHAPES:
            assert await answer(bench, [Message.of("user", question, row_of_shapes())]) == right, question
        assert await answer(bench, [Message.of("user", "What does the sign say?", sign())]) == "STOP"
        follow_up = [
            Message.of("user", "What is left of the square?", row_of_shapes()),
            Message.of("assistant", "a red circle"),
            Message.of("user", "What colour is it?"),
        ]
        assert await answer(bench, follow_up) == "red"
        assert (
            await answer(bench, [Message.of("user", "What colour is the circle?")])
            == "I do not see a picture."
        )


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json", "README.md"])
def test_the_folder_is_complete(name: str) -> None:
    assert (FOLDER / name).is_file()
