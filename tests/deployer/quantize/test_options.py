from dataclasses import replace
from typing import Any

import pytest

from deployer.config.schema import QuantizationConfig
from deployer.errors import ConfigError
from deployer.quantize.options import QuantizeOptions, check_options


@pytest.fixture
def options() -> QuantizeOptions:
    return QuantizeOptions(
        out="out",
        overwrite=False,
        samples=None,
        num_samples=8,
        held_out=2,
        max_tokens=64,
        seed=0,
        group_size=None,
        search=True,
        symmetric=False,
        act_order=False,
        damping=0.01,
        vision=False,
        questions=4,
        first_picture=0,
        compare=["kv_int8", "fp8"],
        output="table",
    )


def faults(options: QuantizeOptions, **asked: Any) -> str:
    """Return what is wrong with the options, a line each; empty where nothing is."""
    try:
        check_options(options, QuantizationConfig(**{"weights": "auto", "kv": "none", **asked}))
    except ConfigError as error:
        return str(error)
    return ""


def test_a_comparison_of_known_formats_holds(options: QuantizeOptions) -> None:
    assert faults(options) == ""


def test_a_format_that_is_named_twice_is_refused(options: QuantizeOptions) -> None:
    said = faults(replace(options, compare=["fp8", "awq", "fp8"]))
    assert said == "quantize.compare: `fp8` more than once: each format has one row"


def test_a_format_of_keys_and_values_beside_a_judgement_is_refused_with_where_it_belongs(
    options: QuantizeOptions,
) -> None:
    rule = (
        "quantization.kv=int8: formats of keys and values are judged as rows of quantize.compare: kv_bf12, "
        "kv_int8, kv_fp8, kv_int4; leave it at none"
    )
    assert faults(options, kv="int8") == rule
    copy = replace(options, compare=None)
    assert faults(copy, kv="int8", weights="awq") == rule
    assert faults(replace(copy, questions=0), kv="int8", weights="awq") == ""
