"""Every kind of vision part, one line each; how their specs come out of a message. Torch-free."""

from dataclasses import fields
from typing import Any

import msgspec

from engines.vision.assembly.anyres_spec import AnyresRowsSpec
from engines.vision.assembly.framed_spec import FramedSpec
from engines.vision.assembly.hd_grid_spec import HdGridSpec
from engines.vision.assembly.high_low_spec import HighLowSpec
from engines.vision.assembly.mined_spec import MinedSpec
from engines.vision.assembly.native_spec import NativeRowsSpec
from engines.vision.assembly.slices_spec import SlicesRowsSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.parts import AssemblySpec, PixelSpec, ProjectorSpec, TowerSpec
from engines.vision.pixels.anyres_spec import AnyresSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.pixels.fixed_square_spec import FixedSquareSpec
from engines.vision.pixels.hd_image_spec import HdImageSpec
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.pixels.slices_spec import SlicesSpec
from engines.vision.projectors.gated_mlp_spec import GatedMlpSpec
from engines.vision.projectors.high_low_mlp_spec import HighLowMlpSpec
from engines.vision.projectors.mlp_spec import MlpSpec
from engines.vision.projectors.patch_merger_spec import PatchMergerSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.projectors.resampler_spec import ResamplerSpec
from engines.vision.towers.clip_vit_spec import ClipVitSpec
from engines.vision.towers.convnext_spec import ConvNextSpec
from engines.vision.towers.eva_clip_spec import EvaClipSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec
from engines.vision.towers.sam_vit_spec import SamVitSpec
from engines.vision.towers.timm_spec import TimmSpec

TOWERS: tuple[type[TowerSpec], ...] = (
    ConvNextSpec,
    SamVitSpec,
    ClipVitSpec,
    EvaClipSpec,
    InternVitSpec,
    Qwen2VitSpec,
    TimmSpec,
)  # fmt: skip

PROJECTORS: tuple[type[ProjectorSpec], ...] = (
    GatedMlpSpec,
    HighLowMlpSpec,
    MlpSpec,
    PatchMergerSpec,
    PixelShuffleMlpSpec,
    ResamplerSpec,
)  # fmt: skip

PIXELS: tuple[type[PixelSpec], ...] = (
    AnyresSpec,
    FixedSquareSpec,
    HdImageSpec,
    DynamicTilesSpec,
    NativeSpec,
    SlicesSpec,
)  # fmt: skip

ASSEMBLIES: tuple[type[AssemblySpec], ...] = (
    MinedSpec,
    HighLowSpec,
    AnyresRowsSpec,
    FramedSpec,
    HdGridSpec,
    NativeRowsSpec,
    SlicesRowsSpec,
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
