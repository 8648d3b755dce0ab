import copy
import json
from typing import Any

import pytest
from internvl_golden import ROOT

from engines.errors import CheckpointError
from engines.families import read_spec
from engines.spec import VisionSpec
from engines.vision.assembly.tiles_spec import TilesSpec


def config_of(case: str = "internlm2_vit300m") -> dict[str, Any]:
    return copy.deepcopy(json.loads((ROOT / case / "config.json").read_text()))


def vision_of(config: dict[str, Any]) -> VisionSpec:
    vision = read_spec(config, origin="m/config.json").vision
    assert vision is not None
    return vision


def test_the_fixture_config_is_read_as_it_stands() -> None:
    spec = read_spec(config_of(), origin="m/config.json")
    assert (spec.family, spec.decoder_names, spec.dtype) == ("internvl", "internlm2", "float32")
    vision = vision_of(config_of())
    assert (vision.towers[0].hidden, vision.towers[0].num_layers, vision.towers[0].norm) == (
        64,
        2,
        "layer_norm",
    )
    assert vision.pixels.max_tiles == 12 and vision.pixels.thumbnail
    assert vision.assembly == TilesSpec(rows_per_tile=9)
    assert vision.projector.shuffle_version == "v2"


def test_missing_keys_take_upstreams_class_defaults_not_the_released_values() -> None:
    config = {
        "model_type": "internvl_chat",
        "llm_config": {"architectures": ["InternLM2ForCausalLM"]},
        "vision_config": {"image_size": 448},
        "dynamic_image_size": True,
    }
    spec = read_spec(config, origin="m/config.json")
    vision = vision_of(config)
    assert (vision.pixels.max_tiles, vision.pixels.thumbnail) == (6, False)
    assert vision.projector.shuffle_version == "v1"
    assert (vision.towers[0].hidden, vision.towers[0].num_layers, vision.towers[0].num_heads) == (
        3200,
        48,
        25,
    )
    assert (vision.towers[0].norm, vision.towers[0].qk_norm, vision.towers[0].qkv_bias) == (
        "rms_norm",
        True,
        False,
    )
    assert (spec.decoder.vocab, spec.decoder.qkv_bias, spec.decoder.norm_eps) == (103168, True, 1e-6)
    assert spec.dtype == "float32"


def test_without_dynamic_image_size_there_is_one_tile() -> None:
    config = config_of()
    config["dynamic_image_size"] = False
    assert vision_of(config).pixels.max_tiles == 1


def test_force_image_size_sets_the_tiles_and_leaves_the_towers_table() -> None:
    config = config_of()
    config["force_image_size"] = 168
    vision = vision_of(config)
    assert (vision.pixels.image, vision.towers[0].image, vision.assembly) == (
        168,
        84,
        TilesSpec(rows_per_tile=36),
    )


@pytest.mark.parametrize(("key", "wanted"), [("torch_dtype", "bfloat16"), ("dtype", "float16")])
def test_both_spellings_of_the_dtype_are_read(key: str, wanted: str) -> None:
    config = config_of()
    del config["torch_dtype"]
    config[key] = wanted
    assert read_spec(config, origin="m").dtype == wanted


def test_all_faults_are_reported_at_once_with_their_path() -> None:
    config = config_of()
    config["ps_version"] = "v3"
    config["use_thumbnail"] = "yes"
    config["vision_config"]["hidden_size"] = -4
    config["vision_config"]["norm_type"] = "group_norm"
    config["llm_config"]["hidden_act"] = "relu"
    config["llm_config"]["num_key_value_heads"] = 3
    config["llm_config"]["vocab_size"] = True
    with pytest.raises(CheckpointError) as caught:
        read_spec(config, origin="m/config.json")
    message = str(caught.value)
    assert message.startswith("m/config.json: ")
    for part in (
        "`ps_version` is 'v3': must be one of v1, v2",
        "`use_thumbnail` is 'yes': must be true or false",
        "`vision_config.hidden_size` is -4: must be a positive integer",
        "`vision_config.norm_type` is 'group_norm': must be one of layer_norm, rms_norm",
        "`llm_config.hidden_act` is 'relu': must be silu",
        "`llm_config.num_key_value_heads` is 3: must divide num_attention_heads, 4",
        "`llm_config.vocab_size` is True: must be a positive integer",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"llm_config": None}, "`llm_config` is None: must be an object"),
        ({"vision_config": []}, "`vision_config` is []: must be an object"),
        ({"select_layer": -9}, "must cover select_layer, -9"),
        ({"downsample_ratio": 0.3}, "`downsample_ratio` is 0.3: must be 1/n"),
        ({"downsample_ratio": 2}, "`downsample_ratio` is 2: must be 1/n"),
        ({"force_image_size": 90}, "`force_image_size` is 90: must be a multiple of patch_size, 14"),
        ({"min_dynamic_patch": 13}, "must not be above max_dynamic_patch, 12"),
        ({"torch_dtype": "int8"}, "`torch_dtype` is 'int8': must be one of bfloat16, float16, float32"),
    ],
)
def test_a_value_that_cannot_be_is_named(changes: dict[str, object], part: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_spec(config_of() | changes, origin="m/config.json")
    assert part in str(caught.value)
