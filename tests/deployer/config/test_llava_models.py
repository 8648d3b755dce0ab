"""Released LLaVA, Yi-VL, DeepSeek-VL and Mini-Gemini: sizes, and what they make of pictures."""

import hashlib
import json
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployed import deployed
from PIL import Image
from tiny_engine import OPTIONS

from engines.families import read_spec
from engines.ipc.wire import decode_to_engine, encode_to_engine
from engines.messages import Start
from engines.spec import ModelSpec, VisionSpec
from engines.weights.parameters import parameters

FIXTURES = Path(__file__).parents[2] / "fixtures"
CLIP_L_336 = 303_507_456 - 2 * 1024  # as transformers counts it, without the norm behind the last layer
CLIP_H_448 = 630_766_080 + (1025 - 257) * 1280 - 2 * 1280  # that of 224 pixels, with more positions
SIGLIP_L_384 = 303_688_704  # timm's vit_large_patch16_siglip_gap_384
SAM_B = 89_670_912
CONVNEXT_L = 197_767_336 - (1536 * 1000 + 1000) - 2 * 1536  # timm's, without head and last norm
LLAMA_7B, LLAMA_13B = 6_738_415_616, 13_015_864_320
# Behind SAM: a second neck, the two halvings, a scale.
HALVINGS = 256 * 768 + 9 * 256**2 + 4 * 256 + 9 * 256 * 512 + 9 * 512 * 1024 + 1
MINING = 2 * 1024 + 1025 * 1024 + 2 * (2 * 2880 + 2881 * 1024)


def mlp(width: int, hidden: int) -> int:
    return (width + 1) * hidden + (hidden + 1) * hidden


def more_tokens(count: int, hidden: int) -> int:
    return 2 * count * hidden


SIZES = {
    "llava_v1_5_7b": CLIP_L_336 + mlp(1024, 4096) + LLAMA_7B,
    "llava_v1_5_7b_hf": CLIP_L_336 + mlp(1024, 4096) + LLAMA_7B + more_tokens(64, 4096),
    "llava_v1_5_13b": CLIP_L_336 + mlp(1024, 5120) + LLAMA_13B,
    "llava_v1_6_vicuna_7b": CLIP_L_336 + mlp(1024, 4096) + 4096 + LLAMA_7B,
    "llava_v1_6_mistral_7b_hf": 7_566_747_648 - 2 * 1024,  # as the hub counts its safetensors
    "llava_v1_6_34b": CLIP_L_336 + mlp(1024, 7168) + 7168 + 34_388_917_248,
    "yi_vl_6b": CLIP_H_448 + mlp(1280, 4096) + 4 * 4096 + 6_061_035_520,
    "yi_vl_34b": CLIP_H_448 + mlp(1280, 7168) + 4 * 7168 + 34_388_917_248,
    "deepseek_vl_7b_chat": SIGLIP_L_384 + SAM_B + HALVINGS + mlp(1024, 4096) + 6_910_365_696,
    "mini_gemini_7b": CLIP_L_336 + CONVNEXT_L + MINING + mlp(1024, 4096) + LLAMA_7B,
    "mini_gemini_13b_hd": CLIP_L_336 + CONVNEXT_L + MINING + mlp(1024, 5120) + LLAMA_13B,
}
TOKENS = {
    "llava_v1_5_7b": 576,
    "llava_v1_6_vicuna_7b": 576 + 48 * 49,
    "yi_vl_34b": 1024,
    "deepseek_vl_1_3b_chat": 576,
    "deepseek_vl_7b_chat": 576,
    "mini_gemini_7b": 576,
    "mini_gemini_7b_hd": 2880,
}
# model, fixture, setting
SETTINGS = [
    ("llava_v1_5_7b", "llava", "v15_orig_pad336"),
    ("llava_v1_6_vicuna_7b", "llava", "v16_orig_anyres336"),
    ("llava_v1_5_7b_hf", "llava", "v15_hf_centercrop336"),
    ("llava_v1_6_mistral_7b_hf", "llava", "v16_hf_anyres336"),
    ("yi_vl_6b", "yi_vl", "pad448"),
    ("deepseek_vl_1_3b_chat", "deepseek_vl", "size384_norm_half"),
    ("deepseek_vl_7b_chat", "deepseek_vl", "size1024_halfbackground_no_norm"),
    ("mini_gemini_7b", "mini_gemini", "size336_aux768_aux"),
    ("mini_gemini_7b_hd", "mini_gemini", "hd_672_aux1536_aux"),
]


def spec_of(model: str) -> ModelSpec:
    config = deployed(model).model
    assert config.hyper_parameters is not None
    spec = read_spec(config.hyper_parameters, origin=model)
    assert spec.family == config.family
    return spec


def vision_of(model: str) -> VisionSpec:
    vision = spec_of(model).vision
    assert vision is not None
    return vision


@pytest.mark.parametrize("model", sorted(SIZES))
def test_the_network_has_the_released_number_of_weights(model: str) -> None:
    assert sum(prod(p.shape) for p in parameters(spec_of(model)) if not p.optional) == SIZES[model]


@pytest.mark.parametrize("model", sorted(TOKENS))
def test_a_picture_takes_at_most_so_many_tokens(model: str) -> None:
    assert vision_of(model).most_tokens == TOKENS[model]


@pytest.mark.parametrize("model", sorted(SIZES))
def test_a_spec_reaches_the_engine_as_it_is(model: str) -> None:
    start = Start(folder="m", spec=spec_of(model), options=OPTIONS)
    assert decode_to_engine(encode_to_engine(start)) == start


@pytest.mark.parametrize("picture", ["img_1000x333.png", "img_37x91.png", "img_640x480.png"])
@pytest.mark.parametrize(("model", "folder", "setting"), SETTINGS)
def test_pixels_are_the_references(model: str, folder: str, setting: str, picture: str) -> None:
    reference: dict[str, Any] = json.loads((FIXTURES / folder / "preprocess.json").read_text())
    wanted = reference[setting][picture]
    pixels = vision_of(model).pixels
    rgb = Image.open(FIXTURES / "pictures" / picture).convert("RGB")
    plan = pixels.plan(*rgb.size)
    (array,) = pixels.arrays(rgb, plan)
    assert (array.shape,) == pixels.shapes(plan) and array.dtype == np.uint8
    channels_first = np.ascontiguousarray(array.transpose(0, 3, 1, 2))
    assert list(channels_first.shape[-len(wanted["shape"]) :]) == wanted["shape"]
    assert hashlib.sha256(channels_first.tobytes()).hexdigest() == wanted["sha256_u8"]


@pytest.mark.parametrize("model", sorted(TOKENS))
def test_costs_are_those_of_all_towers(model: str) -> None:
    vision = vision_of(model)
    plan = vision.pixels.largest()
    for tower in vision.towers:
        assert tower.tile_tokens(plan) > 0 and tower.tile_numbers(plan) > 0
        assert tower.tile_flops(plan)[0] * plan.num_tiles > 2 * 10**11
