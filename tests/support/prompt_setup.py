"""Configs, specs and pictures for tests of `deployer/prompt`."""

import dataclasses
import io
from pathlib import Path
from typing import Any, cast

from PIL import Image

from deployer.config.schema import ChatTemplateConfig, DeployConfig, EngineConfig, VisionConfig
from engines.spec import DecoderSpec, ModelSpec, RopeSpec, VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.video_spec import VideoSpec

FIXTURES = Path(__file__).parents[1] / "fixtures"
TOKENIZERS = FIXTURES / "tokenizers"

PIXELS = DynamicTilesSpec(
    kind="dynamic_tiles", image=28, min_tiles=1, max_tiles=6, thumbnail=True, mean=(0, 0, 0), std=(1, 1, 1)
)
TOKENS_PER_TILE = 4


def vision_config(**changes: Any) -> VisionConfig:
    fields: dict[str, Any] = {
        "name": None, "min_tiles": None, "max_tiles": None, "thumbnail": None, "min_pixels": None,
        "max_pixels": None, "max_batch_size": 1, "tiles_per_iter": None, "cache_bytes": 0, "uncut_pixels": 0,
        "preprocess_workers": 0, "max_images": 8, "max_image_bytes": 1_000_000, "max_image_pixels": 1_000_000,
        "max_videos": 2, "max_video_frames": 16, "max_video_bytes": 1_000_000, "video_frames": None,
        "video_fps": None, "video_timeout_s": 5, "fetch_timeout_s": 2, "max_redirects": 2,
        "allowed_domains": None, "allow_private_addresses": False, "file_root": None,
    }  # fmt: skip
    return VisionConfig(**{**fields, **changes})


def deploy_config(
    *,
    vision: dict[str, Any] | None = None,
    template: dict[str, Any] | None = None,
    session_len: int | None = None,
) -> DeployConfig:
    """Return a config whose parts that prompts do not read are absent."""
    absent = cast("Any", None)
    engine = dict.fromkeys((field.name for field in dataclasses.fields(EngineConfig)), absent)
    fields = dict.fromkeys((field.name for field in dataclasses.fields(ChatTemplateConfig)), None)
    chat = {
        **fields,
        "name": "internvl2-internlm2",
        "capability": "chat",
        "stop_words": [],
        **(template or {}),
    }
    parts = dict.fromkeys((field.name for field in dataclasses.fields(DeployConfig)), absent)
    parts |= {
        "engine": EngineConfig(**{**engine, "session_len": session_len}),
        "vision": vision_config(**(vision or {})),
        "chat_template": ChatTemplateConfig(**cast("Any", chat)),
    }
    return DeployConfig(**parts)


def model_spec(*, vocab: int = 500, with_vision: bool = True) -> ModelSpec:
    """Return a model of which only what prompts read is set."""
    absent = cast("Any", None)
    rope = RopeSpec(theta=1e4)
    decoder = DecoderSpec(
        num_layers=1, hidden=8, num_heads=1, num_kv_heads=1, head_dim=8, ffn=8, vocab=vocab, norm_eps=1e-5,
        rope=rope, max_positions=2048,
    )  # fmt: skip
    vision = VisionSpec(
        towers=(),
        projector=absent,
        pixels=PIXELS,
        assembly=TilesSpec(rows_per_tile=TOKENS_PER_TILE),
        video=VideoSpec(choice="segments", label="Frame{}: ", num_frames=8),
    )
    return ModelSpec(
        family="internvl", decoder_names="internlm2", decoder=decoder, vision=vision if with_vision else None,
        dtype="float32",
    )  # fmt: skip


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return an image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
