"""What `vision.*` changes in a checkpoint's preprocessing. Imports nothing heavy, for the planner."""

from typing import Any

from deployer.config.schema import VisionConfig
from deployer.errors import ConfigError
from engines.vision.parts import PixelSpec

OVERRIDES = ("max_pixels", "max_tiles", "min_pixels", "min_tiles", "thumbnail")  # of `vision.*`


def configured(own: PixelSpec, config: VisionConfig) -> PixelSpec:
    """Return the preprocessing with what `vision.*` overrides; null keeps its own. Raises ConfigError."""
    given: dict[str, Any] = {
        name: value for name in OVERRIDES if (value := getattr(config, name)) is not None
    }
    without = [
        f"vision.{name}={given[name]}: this model's preprocessing (`{own.kind}`) has no such option, but "
        f"{', '.join(own.options) or 'none'}; leave it null"
        for name in sorted(given)
        if name not in own.options
    ]
    if without:
        raise ConfigError(without)
    pixels = own.changed(given)
    if pixels.faults():
        raise ConfigError(
            [f"{fault} (null: the checkpoint's own, {_listed(own)})" for fault in pixels.faults()]
        )
    return pixels


def _listed(pixels: PixelSpec) -> str:
    return ", ".join(f"{name} {getattr(pixels, name)}" for name in pixels.options)
