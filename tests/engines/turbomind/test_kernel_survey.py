"""What steps of any size ask for is among what the survey names, whichever sizes it looked at."""

import random
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_engine import SPEC, options, picture

from engines.options import SpeculationOptions
from engines.quant.decode_copies import decode_copies
from engines.quant.weight_quant import WeightQuant
from engines.spec import DecoderSpec, ModelSpec, RopeSpec
from engines.turbomind.cubins import Module
from engines.turbomind.kernel_survey import StepShape, row_counts, survey, walk
from engines.turbomind.noting_gpu import AloneInGroup, NotingGpu
from engines.turbomind.ops_table import TurbomindOps
from engines.vision.assembly.native_spec import NativeRowsSpec
from engines.vision.parts import ImagePixels
from engines.vision.pixels.native_spec import NativeSpec
from engines.vision.projectors.patch_merger_spec import PatchMergerSpec
from engines.vision.towers.intern_vit_spec import InternVitSpec
from engines.vision.towers.qwen2_vit_spec import Qwen2VitSpec
from engines.vision.vlm import Vlm, without_numbers
from engines.weights.decode_copy import layer_copies
from engines.weights.load import random_tensors

META = torch.device("meta")
BF16 = torch.bfloat16
DECODER = DecoderSpec(
    num_layers=4,
    hidden=512,
    num_heads=8,
    num_kv_heads=2,
    head_dim=64,
    ffn=1536,
    vocab=1000,
    norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0),
    max_positions=4096,
)


@dataclass(frozen=True)
class Facts:
    """A Hopper GPU so small that layers of these sizes are cut in every way."""

    arch: str = "sm_90a"
    capability: tuple[int, int] = (9, 0)
    num_sms: int = 10
    shared_bytes_per_block: int = 232448
    shared_bytes_per_sm: int = 233472


def model(format: Any = None, **changes: Any) -> ModelSpec:
    quantization = None if format is None else WeightQuant(format=format, group_size=128)
    return replace(SPEC, vision=None, decoder=replace(DECODER, **changes), quantization=quantization)


def outline_of(spec: ModelSpec, tp: int, *, copied: bool = False) -> dict[str, torch.Tensor]:
    tensors = random_tensors(spec, device=torch.device("cpu"), dtype=BF16, seed=0, tp=tp)
    layers = layer_copies(spec, spec.quantization, tp=tp) if copied else ()
    copies = decode_copies(tensors, layers, rank=0, tp=tp)
    return without_numbers(tensors | copies)


@pytest.mark.parametrize(
    ("format", "kv", "tp", "copied"),
    [
        (None, "none", 1, False),
        (None, "none", 1, True),
        (None, "none", 2, True),
        (None, "int8", 2, False),
        ("fp8", "fp8", 1, False),
        ("fp8", "fp8", 1, True),
        ("int8", "none", 1, False),
        ("awq", "int4", 1, False),
    ],
)
def test_no_step_asks_for_a_module_that_was_not_named(format: Any, kv: Any, tp: int, copied: bool) -> None:
    spec = model(format)
    how = options(
        tp=tp, format=kv, page_tokens=16, max_batch_size=48, max_prefill_token_num=3000, session_len=4096,
        speculation=SpeculationOptions(num_tokens=7, match_tokens=3, max_sequences=4, grammar_tokens=0),
    )  # fmt: skip
    outline, named = outline_of(spec, tp, copied=copied), list[Module]()
    survey(outline, spec, how, Facts(), dtype=BF16, wanted=named.append)  # type: ignore[arg-type]
    assert len(named) == len(set(named)) > 12
    assert any(file == "linear_bf12.cu" for file, _ in named) == copied  # of fp8 the head's
    assert any(file == "linear_fp7.cu" for file, _ in named) == (copied and format == "fp8")
    assert any(file == "linear_chain_int4.cu" for file, _ in named) == (format == "awq")
    asked: set[Module] = set()
    noting = NotingGpu(Facts(), asked.add)  # type: ignore[arg-type]
    network = Vlm(spec, outline, ops=TurbomindOps(noting), group=AloneInGroup(size=tp))
    draw = random.Random(0)
    shapes = []
    for _ in range(100):
        decodes = draw.choice((0, draw.randint(1, 48)))
        rows = draw.choice((draw.randint(1, 48), draw.randint(1, 700), draw.randint(1, 3000)))
        chunks = draw.randint(0 if decodes else 1, min(rows, 48 - decodes)) if decodes < 48 else 0
        shapes.append(StepShape(num_decodes=decodes, chunk_rows=rows if chunks else 0, num_chunks=chunks))
    shapes += [StepShape(num_decodes=rows, has_proposals=True) for rows in (2, 4, 6, 8, 16, 24, 32)]
    walk(network, how, shapes, dtype=BF16)
    assert not asked - set(named)
    assert len(asked) > len(named) / 2, "these steps say something about the survey"


def test_gpus_before_hopper_have_the_kernel_named_that_reads_a_copy_in_12_bits() -> None:
    spec, named = model(None), list[Module]()
    how = options(page_tokens=16, max_batch_size=16, max_prefill_token_num=64, session_len=512)
    ampere = Facts(capability=(8, 0), shared_bytes_per_block=166_912)
    survey(outline_of(spec, 1, copied=True), spec, how, ampere, dtype=BF16, wanted=named.append)  # type: ignore[arg-type]
    files = {file for file, _ in named}
    assert "linear_skinny_bf12.cu" in files
    assert "linear_bf12.cu" not in files


def test_no_picture_asks_for_a_module_that_was_not_named() -> None:
    assert SPEC.vision is not None
    tower = replace(SPEC.vision.towers[0], hidden=1024, num_heads=16, ffn=4096, num_layers=2)
    assert isinstance(tower, InternVitSpec)
    spec = replace(SPEC, vision=replace(SPEC.vision, towers=(tower,)), decoder=DECODER)
    how = options(page_tokens=16, max_batch_size=4, max_prefill_token_num=64)
    outline, named = outline_of(spec, 1), list[Module]()
    survey(outline, spec, how, Facts(), dtype=BF16, wanted=named.append)  # type: ignore[arg-type]
    assert any(file.startswith("attention_full") for file, _ in named)
    asked: set[Module] = set()
    noting = NotingGpu(Facts(), asked.add)  # type: ignore[arg-type]
    network = Vlm(spec, outline, ops=TurbomindOps(noting), group=AloneInGroup())
    draw = random.Random(0)
    with torch.inference_mode():
        for _ in range(20):
            pictures = [picture(0, draw.choice((1, 3, 4, 5))) for _ in range(draw.randint(1, 4))]
            network.encode_images(pictures, max_tiles=how.vision.max_batch_size)
    assert asked and not asked - set(named)


def test_no_picture_of_any_size_asks_for_a_module_that_was_not_named() -> None:
    tower = Qwen2VitSpec(
        patch=14,
        frames=2,
        merge=2,
        hidden=1280,
        num_layers=1,
        num_heads=16,
        ffn=2560,
        norm="layer_norm",
        norm_eps=1e-6,
        hidden_act="quick_gelu",
    )
    pixels = NativeSpec(
        cell=28, step_frames=2, min_pixels=3136, max_pixels=1_600_000, mean=(0.5,) * 3, std=(0.5,) * 3
    )
    projector = PatchMergerSpec(merge=2, norm="layer_norm", norm_eps=1e-6)
    assert SPEC.vision is not None
    vision = replace(
        SPEC.vision, towers=(tower,), projector=projector, pixels=pixels, assembly=NativeRowsSpec()
    )
    spec = replace(SPEC, vision=vision, decoder=DECODER)
    how = options(page_tokens=16, max_batch_size=4, max_prefill_token_num=64)
    outline, named = outline_of(spec, 1), list[Module]()
    survey(outline, spec, how, Facts(num_sms=132), dtype=BF16, wanted=named.append)  # type: ignore[arg-type]
    asked: set[Module] = set()
    noting = NotingGpu(Facts(num_sms=132), asked.add)  # type: ignore[arg-type]
    network = Vlm(spec, outline, ops=TurbomindOps(noting), group=AloneInGroup())
    draw = random.Random(0)
    with torch.inference_mode():
        for _ in range(120):
            plan = pixels.plan(28 * draw.randint(4, 40), 28 * draw.randint(4, 40))
            (shape,) = pixels.shapes(plan)
            arrays, shared = (np.zeros(shape, dtype=np.uint8),), vision.assembly.shared([plan])
            image = ImagePixels(arrays=arrays, plan=plan, shared=shared)
            network.encode_images([image], max_tiles=how.vision.max_batch_size)
    assert not asked - set(named)
    cuts = {module for module in asked if module[0] == "linear_columns.cu"}
    assert len(cuts) > 12, "pictures of these sizes are cut in many ways"


@pytest.mark.parametrize("uncut_pixels", [0, 1 << 20])
def test_pictures_that_come_whole_have_the_kernel_named_that_cuts_them(uncut_pixels: int) -> None:
    how, named = options(page_tokens=16, max_batch_size=4, max_prefill_token_num=64), list[Module]()
    how = replace(how, vision=replace(how.vision, uncut_pixels=uncut_pixels))
    spec = replace(SPEC, decoder=DECODER)
    survey(outline_of(spec, 1), spec, how, Facts(), dtype=BF16, wanted=named.append)  # type: ignore[arg-type]
    cuts = [constants for file, constants in named if file == "cut_tiles.cu"]
    assert sorted(cuts) == ([(("TILES", 0),), (("TILES", 1),)] if uncut_pixels else [])


def test_rows_are_asked_about_on_both_sides_of_every_multiple_up_to_the_last() -> None:
    rows = [*row_counts(1500)]
    assert rows[:17] == [*range(1, 18)]
    assert {24, 25, 128, 129, 256, 257, 640, 641, 1024, 1025, 1408, 1409, 1500} <= set(rows)
    assert max(rows) == 1500 and max(row_counts(5)) == 5
