"""The InternVL goldens of tests/fixtures/internvl: checkpoints to load, inputs, and upstream's results."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from drawn_checkpoint import drawn_tensors
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from engines.families import read_spec
from engines.spec import ModelSpec
from engines.vision.parts import ImagePixels
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec

ROOT = Path(__file__).parents[1] / "fixtures" / "internvl"
CASES = sorted(path.parent.name for path in ROOT.glob("*/drawn.json"))
PROMPTS = ("text", "one_image", "two_images")


@dataclass(frozen=True)
class Golden:
    """One case: its spec, and what upstream computed."""

    name: str
    config: dict[str, Any]
    spec: ModelSpec
    meta: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def image_id(self) -> int:
        """The id that stands for one image row."""
        return int(self.meta["tokens"]["img_context"])

    @property
    def pixels(self) -> DynamicTilesSpec:
        """The preprocessing that the goldens were made with, which allows fewer tiles than the config."""
        assert self.spec.vision is not None and isinstance(self.spec.vision.pixels, DynamicTilesSpec)
        return replace(self.spec.vision.pixels, max_tiles=self.meta["preprocessing"]["max_num"])

    def picture(self, name: str) -> Image.Image:
        """Return one of the case's pictures."""
        own = ROOT / self.name / name
        return Image.open(own if own.exists() else ROOT / "images" / name).convert("RGB")

    def pictures(self, prompt: str) -> list[Image.Image]:
        """Return the pictures of a prompt."""
        return [self.picture(name) for name in self.meta["prompts"][prompt]["images"]]

    def prepared(self, prompt: str) -> list[ImagePixels]:
        """Return the pictures of a prompt as the engine gets them."""
        spec = self.pixels
        plans = [(picture, spec.plan(*picture.size)) for picture in self.pictures(prompt)]
        return [ImagePixels(arrays=spec.arrays(picture, plan), plan=plan) for picture, plan in plans]

    def token_ids(self, prompt: str) -> list[int]:
        """Return the ids of a prompt, an image id a feature row."""
        ids: list[int] = self.tensors[f"input_ids_{prompt}"].tolist()
        return ids


def golden(case: str) -> Golden:
    """Read one case without its weights."""
    config = json.loads((ROOT / case / "config.json").read_text())
    return Golden(
        name=case,
        config=config,
        spec=read_spec(config, origin=f"{case}/config.json"),
        meta=json.loads((ROOT / case / "meta.json").read_text()),
        tensors=load_file(ROOT / case / "golden.safetensors"),
    )


def weights(case: str) -> dict[str, Tensor]:
    """Return the checkpoint tensors of a case under upstream's names."""
    return drawn_tensors(ROOT / case)["model.safetensors"]


def write_checkpoint(case: str, folder: Path) -> Path:
    """Write a case as upstream publishes it: config.json and model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_bytes((ROOT / case / "config.json").read_bytes())
    save_file(weights(case), folder / "model.safetensors")
    return folder
