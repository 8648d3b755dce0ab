import json
from pathlib import Path
from typing import Any

import pytest

from engines.errors import CheckpointError
from engines.families.config_section import ConfigSection
from engines.families.quantization import read_weight_quant
from engines.quant.weight_quant import WeightQuant

AWQ = {
    "quant_method": "awq",
    "version": "gemm",
    "bits": 4,
    "group_size": 64,
    "modules_to_not_convert": ["vision"],
}


def read(values: dict[str, Any], folder: Path | None = None) -> WeightQuant | None:
    section = ConfigSection(values, origin="m/config.json", folder=folder)
    found = read_weight_quant(section)
    section.raise_faults()
    return found


def test_a_config_that_says_nothing_is_not_quantized() -> None:
    assert read({"llm_config": {"quantization_config": None}}) is None


@pytest.mark.parametrize("place", ["top", "llm_config", "text_config"])
def test_awq_is_found_on_top_and_in_the_decoders_section(place: str) -> None:
    inner = {"quantization_config": AWQ}
    found = read(inner if place == "top" else {place: inner})
    assert found == WeightQuant(format="awq", group_size=64, kept=("vision",))
    assert found.keeps("vision_model.layers.1.fc1")
    assert not found.keeps("model.layers.1.mlp.down_proj")


def test_gptq_says_its_order_its_groups_and_how_zeros_are_stored() -> None:
    values = {"quant_method": "gptq", "bits": 4, "group_size": -1, "desc_act": True}
    assert read({"quantization_config": values}) == WeightQuant(
        format="gptq", group_size=None, act_order=True, zero_offset=1
    )
    newer = read({"quantization_config": values | {"checkpoint_format": "gptq_v2"}})
    assert newer is not None
    assert newer.zero_offset == 0


@pytest.mark.parametrize(
    ("file", "values", "wanted"),
    [
        ("quantize_config.json", {"bits": 4, "group_size": 32, "desc_act": False}, ("gptq", 32)),
        (
            "quant_config.json",
            {"w_bit": 4, "q_group_size": 32, "zero_point": True, "version": "GEMM"},
            ("awq", 32),
        ),
    ],
)
def test_files_beside_config_json_count_too(
    file: str, values: dict[str, Any], wanted: tuple[str, int], tmp_path: Path
) -> None:
    (tmp_path / file).write_text(json.dumps(values))
    found = read({}, tmp_path)
    assert found is not None
    assert (found.format, found.group_size) == wanted


@pytest.mark.parametrize(("kind", "wanted"), [("int", "int8"), ("float", "fp8")])
def test_compressed_tensors_of_8_bits_are_read_and_patterns_are_kept(kind: str, wanted: str) -> None:
    weights = {"num_bits": 8, "type": kind, "strategy": "channel", "symmetric": True}
    groups = {"group_0": {"weights": weights, "targets": ["Linear"]}}
    values = {
        "quant_method": "compressed-tensors",
        "config_groups": groups,
        "ignore": ["re:.*vision.*", "lm_head"],
    }
    found = read({"quantization_config": values})
    assert found is not None
    assert found.format == wanted
    assert found.keeps("model.vision_tower.fc1")


@pytest.mark.parametrize(("method", "wanted"), [("fp8", "fp8"), ("smooth_quant", "int8")])
def test_other_names_of_8_bits_are_known(method: str, wanted: str) -> None:
    found = read({"quantization_config": {"quant_method": method}})
    assert found is not None
    assert found.format == wanted


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"quant_method": "bitsandbytes"}, "must be one of awq, gptq"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "scales a block of a weight are not read"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "`int` or all to `float` of 8 bits"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"a": {"weights": {"num_bits": 4, "type": "int"}}},
            },
            "`int` or all to `float` of 8 bits",
        ),
        ({"quant_method": "awq", "modules_to_not_convert": "vision"}, "must be a list of module names"),
    ],
)
def test_what_is_not_read_is_named_with_its_key(values: dict[str, Any], words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read({"quantization_config": values})
    assert words in str(caught.value)
