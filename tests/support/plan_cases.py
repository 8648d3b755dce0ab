"""Cases for the planner's tests: InternVL2 sizes written out by hand, and the devices that ship."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from deployer.plan.case import Case
from deployer.plan.decoder_work import decoder_work
from deployer.plan.hardware import Hardware, Shares, Tflops
from deployer.plan.options import PlanOptions
from deployer.plan.rates import limit
from deployer.plan.weight_bytes import weight_parts
from deployer.serve.pricing import Pricing
from engines.options import EngineOptions, KvOptions, SchedulerOptions, VisionOptions
from engines.quant.weight_quant import WeightFormat, WeightQuant
from engines.spec import (
    DecoderSpec,
    ModelSpec,
    RopeSpec,
    VisionSpec,
)
from engines.vision.assembly.tiles_spec import TilesSpec
from engines.vision.pixels.dynamic_tiles_spec import DynamicTilesSpec
from engines.vision.projectors.pixel_shuffle_mlp_spec import PixelShuffleMlpSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec

CONF = Path(__file__).parents[2] / "conf"

# layers, hidden, heads, KV heads, head dim, FFN, vocabulary; source: OpenGVLab's config.json files
DECODERS = {
    "1b": (24, 896, 14, 2, 64, 4864, 151655),
    "2b": (24, 2048, 16, 8, 128, 8192, 92553),
    "8b": (32, 4096, 32, 8, 128, 14336, 92553),
    "26b": (48, 6144, 48, 8, 128, 16384, 92553),
    "76b": (80, 8192, 64, 8, 128, 28672, 128256),
}


def hardware(name: str) -> Hardware:
    """Return a device of conf/hardware, read without Hydra."""
    values: dict[str, Any] = yaml.safe_load((CONF / "hardware" / f"{name}.yaml").read_text())
    shares = values.pop("shares")
    return Hardware(**{**values, "tflops": Tflops(**values["tflops"]), "shares": shares and Shares(**shares)})


def case(
    size: str = "8b",
    *,
    device: str = "h200",
    tp: int = 1,
    weights: WeightFormat | None = None,
    **changes: Any,
) -> Case:
    """Return InternVL2 of a size with the shipped defaults; `changes` are fields of Case.

    `weights` are those of the decoder, in groups of 128; None: not quantized.
    """
    group = 128 if weights in ("awq", "gptq") else None
    quant = weights and WeightQuant(format=weights, group_size=group, decoder_only=True)
    made = Case(
        spec=spec(size),
        hardware=hardware(device),
        options=engine(tp=tp),
        quant=quant,
    )
    return replace(made, **changes)


def with_copy(what: Case, share: float = 0.15) -> Case:
    """Return the case with weights in fewer bits, too, where they take no more than a share of the memory."""
    return replace(what, options=replace(what.options, decode_weights=share))


def pricing_of(case: Case) -> Pricing:
    """Return the prices of a case at the limit of its device."""
    parts, rates = weight_parts(case), limit(case)
    return Pricing(case=case, parts=parts, work=decoder_work(case, parts), rates=rates, limits=rates)


def spec(size: str) -> ModelSpec:
    """Return InternVL2 of a size: the 300M tower up to 8B, the 6B tower above."""
    layers, hidden, heads, kv_heads, head_dim, ffn, vocab = DECODERS[size]
    decoder = DecoderSpec(
        num_layers=layers,
        hidden=hidden,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        ffn=ffn,
        vocab=vocab,
        norm_eps=1e-5,
        rope=RopeSpec(theta=1e6),
        max_positions=32768,
        qkv_bias=size == "1b",
    )
    return ModelSpec(
        family="internvl",
        decoder_names="internlm2",
        decoder=decoder,
        vision=_vision(large=size in ("26b", "76b")),
        dtype="bfloat16",
    )


def engine(*, tp: int = 1) -> EngineOptions:
    """Return the engine options that ship."""
    return EngineOptions(
        kind="turbomind",
        device="cuda",
        dtype="bfloat16",
        tp=tp,
        decode_weights=0.0,
        load_format="checkpoint",
        kv=KvOptions(format="none", page_tokens=64, num_pages=None, memory=0.8, prefix_caching=True),
        scheduler=SchedulerOptions(
            max_batch_size=128,
            max_prefill_token_num=8192,
            num_tokens_per_iter=None,
            max_prefill_iters=1,
            tiles_per_iter=None,
            session_len=None,
            classes=(),
            speculation=None,
        ),
        vision=VisionOptions(max_batch_size=16, cache_bytes=1 << 28, uncut_pixels=1 << 24),
        rope_scaling_factor=None,
        use_logn_attn=None,
        step_timeout_s=300.0,
    )


def options(**changes: Any) -> PlanOptions:
    """Return plan options with short lists."""
    made = PlanOptions(
        output="table",
        prompt_tokens=1024,
        output_tokens=256,
        images=1,
        image_size=[1344, 896],
        batches=[1, 256],
        contexts=[1024],
        pictures=[[448, 448]],
        weights=None,
        kv=None,
    )
    return replace(made, **changes)


def _vision(*, large: bool) -> VisionSpec:
    tower = InternVitSpec(
        image=448,
        patch=14,
        hidden=3200 if large else 1024,
        num_layers=45 if large else 24,
        num_heads=25 if large else 16,
        ffn=12800 if large else 4096,
        norm="rms_norm" if large else "layer_norm",
        norm_eps=1e-6,
        qkv_bias=not large,
        qk_norm=large,
        select_layer=-1,
    )
    pixels = DynamicTilesSpec(
        image=448,
        min_tiles=1,
        max_tiles=12,
        thumbnail=True,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
    )
    return VisionSpec(
        towers=(tower,),
        projector=PixelShuffleMlpSpec(factor=2),
        pixels=pixels,
        assembly=TilesSpec(rows_per_tile=256),
    )
