"""Pictures that become one square, and what two assemblies make of it on the device."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engines.errors import RequestError
from engines.families.clip_config import MEAN, STD, padding_colour
from engines.vision.assembly.high_low import smaller
from engines.vision.assembly.mined import views
from engines.vision.assembly.mined_spec import MinedSpec
from engines.vision.pixels import fixed_square as module
from engines.vision.pixels.fixed_square import fixed_square
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec

FIXTURES = Path(__file__).parents[2] / "fixtures"


def spec(mode: Any, image: int = 32, background: tuple[int, int, int] = (9, 90, 200)) -> FixedSquareSpec:
    return FixedSquareSpec(image=image, mode=mode, background=background, mean=MEAN, std=STD)


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", [(50, 20), (20, 51), (33, 33), (1, 7), (90, 89)])
def test_padding_in_bands_gives_the_resized_square(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rgb, side = noise(*size), max(size)
    square = Image.new("RGB", (side, side), (9, 90, 200))
    square.paste(rgb, ((side - rgb.width) // 2, (side - rgb.height) // 2))
    wanted = np.asarray(square.resize((32, 32), Image.Resampling.BICUBIC))
    monkeypatch.setattr(module, "BAND_PIXELS", 3 * side)
    assert np.array_equal(fixed_square(rgb, spec("pad")), wanted)


def test_each_mode_keeps_what_it_says() -> None:
    wide = Image.new("RGB", (64, 32), (255, 0, 0))
    assert (fixed_square(wide, spec("pad"))[[0, -1]] == (9, 90, 200)).all()
    assert (fixed_square(wide, spec("fit"))[[0, -1]] == (9, 90, 200)).all()
    assert (fixed_square(wide, spec("fit"))[8:24] == (255, 0, 0)).all()
    for mode in ("crop", "squash"):
        assert (fixed_square(wide, spec(mode)) == (255, 0, 0)).all()


def test_a_line_of_a_picture_is_refused() -> None:
    assert spec("pad").plan(200, 1).num_tiles == 1
    with pytest.raises(RequestError, match=r"a picture of 1x201 pixels: its longer side must be at most 200"):
        spec("crop").plan(1, 201)


def reference(folder: str, setting: str, picture: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((FIXTURES / folder / "preprocess.json").read_text())[setting][picture]
    return values


@pytest.mark.parametrize("picture", ["img_1000x333.png", "img_37x91.png"])
@pytest.mark.parametrize(
    ("setting", "aux", "grid"), [("size336_aux768", 768, 1), ("hd_672_aux1536", 1536, 2)]
)
def test_mini_geminis_first_tower_sees_what_the_reference_shows_it(
    setting: str, aux: int, grid: int, picture: str
) -> None:
    rgb = Image.open(FIXTURES / "pictures" / picture).convert("RGB")
    square = fixed_square(rgb, spec("pad", aux, padding_colour()))
    numbers = (torch.tensor(square).float() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    own = MinedSpec(image=336, side=24, grid=grid, whole=grid > 1, map_width=1)
    seen = views(own, numbers[None]).permute(0, 3, 1, 2)
    wanted = reference("mini_gemini", f"{setting}_clip_input", picture)
    assert list(seen.shape) == wanted["shape"]
    samples = seen.flatten()[wanted["sample_index"]]
    torch.testing.assert_close(samples, torch.tensor(wanted["sample_value"]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("picture", ["img_1000x333.png", "img_37x91.png"])
def test_deepseeks_second_tower_sees_what_the_reference_shows_it(picture: str) -> None:
    rgb = Image.open(FIXTURES / "pictures" / picture).convert("RGB")
    square = torch.tensor(fixed_square(rgb, spec("fit", 1024, padding_colour()))).float() / 255
    wanted = reference("deepseek_vl", "hybrid_low_input_384_before_its_norm", picture)
    numbers = smaller(square[None], 384)[0].permute(2, 0, 1)
    samples = numbers.flatten()[wanted["sample_index"]]
    torch.testing.assert_close(samples, torch.tensor(wanted["sample_value"]), atol=2e-5, rtol=0)
