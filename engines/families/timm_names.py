"""A tower that a config names `timm/<name>`: its spec, its preprocessing and the names of its tensors."""

from dataclasses import replace

from engines.families.config_section import ConfigSection
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.towers.timm_sizes import TimmModel, timm_model
from engines.vision.towers.timm_spec import TimmSpec
from engines.weights.rules import Rule, rows

PREFIX = "timm/"


def named_timm(section: ConfigSection, key: str, *, select_layer: int) -> TimmModel | None:
    """Return the model that a key names; None where it names another kind of tower.

    Raises CheckpointError for a model that timm does not have, PackageError where there is no timm.
    """
    name = section.values.get(key)
    if not isinstance(name, str) or not name.startswith(PREFIX):
        return None
    return timm_model(name.removeprefix(PREFIX), select_layer)


def timm_rules(tower: TimmSpec, source: str) -> tuple[Rule, ...]:
    """Return timm's own names below a prefix of the checkpoint."""
    return rows(*((source + name, f"vision.{name}") for name, _ in tower.tensors))


def timm_unused(tower: TimmSpec, source: str) -> tuple[str, ...]:
    """Return what a whole state dict of timm's model has beside: later layers, norm, head, counters."""
    return tuple(source + name for name in tower.unused)


def seen_by_timm(pixels: FixedSquareSpec, model: TimmModel) -> FixedSquareSpec:
    """Return a preprocessing with the mean and deviation of timm's own weights."""
    red, green, blue = (int(255 * part) for part in model.mean)
    return replace(pixels, mean=model.mean, std=model.std, background=(red, green, blue))
