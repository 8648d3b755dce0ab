"""Every kind of vision part, one line each; how their specs come out of a message. Torch-free."""

from dataclasses import fields
from typing import Any

import msgspec

from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.parts import AssemblySpec, PixelSpec, ProjectorSpec, TowerSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec

TOWERS: tuple[type[TowerSpec], ...] = (
    ClipVitSpec,
    InternVitSpec,
)  # fmt: skip

PROJECTORS: tuple[type[ProjectorSpec], ...] = (
    PixelShuffleMlpSpec,
)  # fmt: skip

PIXELS: tuple[type[PixelSpec], ...] = (
    DynamicTilesSpec,
)  # fmt: skip

ASSEMBLIES: tuple[type[AssemblySpec], ...] = (
    TilesSpec,
)  # fmt: skip

_KINDS: dict[type, tuple[type, ...]] = {
    TowerSpec: TOWERS,
    ProjectorSpec: PROJECTORS,
    PixelSpec: PIXELS,
    AssemblySpec: ASSEMBLIES,
}


def decode_part(part: type, value: Any) -> Any:
    """Return the spec that a map of its fields says; the `dec_hook` of msgspec for these four classes."""
    by_name = {field.default: kind for kind in _KINDS[part] for field in fields(kind) if field.name == "kind"}
    return msgspec.convert(value, by_name[value["kind"]], dec_hook=decode_part)
