import math
from typing import Any

import pytest

from engines.errors import CheckpointError
from engines.families.config_section import ConfigSection
from engines.families.decoders import decoder_rules, read_decoder
from engines.spec import DecoderSpec


def read(**values: Any) -> DecoderSpec:
    section = ConfigSection({"architectures": ["LlamaForCausalLM"]} | values, origin="m/config.json")
    _, spec = read_decoder(section)
    section.raise_faults()
    return spec


LONG = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}
TINY = {"hidden_size": 32, "num_attention_heads": 4}


@pytest.mark.parametrize(
    ("architecture", "name", "vocab", "kv_heads", "qkv_bias"),
    [
        ("LlamaForCausalLM", "llama", 32000, 32, False),
        ("Qwen2ForCausalLM", "qwen2", 151936, 32, True),
        ("Phi3ForCausalLM", "phi3", 32064, 32, False),
        ("InternLM2ForCausalLM", "internlm2", 103168, 32, True),
    ],
)
def test_each_decoder_has_its_own_defaults(
    architecture: str, name: str, vocab: int, kv_heads: int, qkv_bias: bool
) -> None:
    section = ConfigSection({"architectures": [architecture]}, origin="m")
    found, spec = read_decoder(section)
    assert (found, spec.vocab, spec.num_kv_heads, spec.qkv_bias) == (name, vocab, kv_heads, qkv_bias)
    assert decoder_rules(found)


def test_model_type_decides_where_architectures_is_absent() -> None:
    assert read_decoder(ConfigSection({"model_type": "phi3"}, origin="m"))[0] == "phi3"


def test_an_unknown_decoder_is_answered_with_the_known_ones() -> None:
    with pytest.raises(
        CheckpointError, match=r"`architectures` is \['GPT2'\]: must name a known decoder: InternLM2"
    ):
        read(architectures=["GPT2"])


def test_head_dim_may_differ_from_hidden_over_heads() -> None:
    assert read(**TINY).head_dim == 8
    assert read(**TINY, head_dim=16).head_dim == 16
    assert read(**TINY, head_dim=None).head_dim == 8


def test_biases_follow_their_switches() -> None:
    spec = read(attention_bias=True, mlp_bias=True)
    assert (spec.qkv_bias, spec.o_bias, spec.mlp_bias) == (True, True, True)
    spec = read(architectures=["InternLM2ForCausalLM"], bias=False)
    assert (spec.qkv_bias, spec.o_bias, spec.mlp_bias) == (False, False, False)


def test_a_window_that_hides_nothing_is_no_window() -> None:
    phi3 = {"architectures": ["Phi3ForCausalLM"], "max_position_embeddings": 4096}
    assert read(**phi3, sliding_window=2047).sliding_window == 2047
    assert read(**phi3, sliding_window=262144).sliding_window is None
    assert read(**phi3, sliding_window=None).sliding_window is None


def test_a_window_on_some_layers_is_refused() -> None:
    with pytest.raises(CheckpointError, match="use_sliding_window"):
        read(architectures=["Qwen2ForCausalLM"], use_sliding_window=True)


def test_heads_of_which_a_part_turns_are_refused() -> None:
    """Phi-4-mini's; a Llama's own reader turns whole heads."""
    assert read(**TINY, partial_rotary_factor=1.0) == read(**TINY)
    with pytest.raises(CheckpointError, match=r"`partial_rotary_factor` is 0\.75: must be 1\.0"):
        read(**TINY, partial_rotary_factor=0.75)


@pytest.mark.parametrize("kind_key", ["type", "rope_type"])
def test_linear_and_dynamic_keep_the_length_they_stretch(kind_key: str) -> None:
    for kind in ("linear", "dynamic"):
        spec = read(max_position_embeddings=100, rope_theta=5e5, rope_scaling={kind_key: kind, "factor": 3.0})
        assert (spec.rope.kind, spec.rope.factor, spec.rope.theta) == (kind, 3.0, 5e5)
        assert spec.max_positions == 100
    assert spec.rope.max_positions == 100


def test_rope_parameters_is_an_alias_that_holds_theta() -> None:
    spec = read(rope_parameters={"rope_type": "default", "rope_theta": 7e5})
    assert (spec.rope.kind, spec.rope.theta) == ("default", 7e5)


def test_llama3_is_read() -> None:
    scaling = {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }  # fmt: skip
    rope = read(rope_scaling=scaling, max_position_embeddings=131072).rope
    assert (rope.kind, rope.factor, rope.low_freq_factor, rope.high_freq_factor) == ("llama3", 8.0, 1.0, 4.0)
    assert rope.original_max_positions == 8192


@pytest.mark.parametrize(
    ("kind", "factor"),
    [
        ("su", math.sqrt(1 + math.log(4) / math.log(512))),
        ("longrope", math.sqrt(1 + math.log(4) / math.log(512))),
        ("yarn", 0.1 * math.log(4) + 1),
    ],
)
def test_longrope_in_its_three_names(kind: str, factor: float) -> None:
    spec = read(
        **TINY,
        max_position_embeddings=2048,
        original_max_position_embeddings=512,
        rope_scaling=LONG | {"type": kind},
    )
    assert (spec.rope.kind, spec.rope.original_max_positions, spec.max_positions) == ("longrope", 512, 2048)
    assert spec.rope.attention_factor == pytest.approx(factor)
    assert (spec.rope.short_factors, spec.rope.long_factors) == ((1.0,) * 4, (2.0,) * 4)


@pytest.mark.parametrize(
    ("scaling", "part"),
    [
        ({"type": "ntk"}, "`rope_scaling.type` is 'ntk': must be one of default, dynamic, linear, llama3"),
        ({"type": "linear"}, "`rope_scaling.factor` is missing: must be a positive number"),
        ({"type": "dynamic", "factor": -1}, "`rope_scaling.factor` is -1: must be a positive number"),
        ("linear", "`rope_scaling` is 'linear': must be an object"),
        (
            {
                "type": "su",
                "short_factor": [1.0],
                "long_factor": [2.0] * 4,
                "original_max_position_embeddings": 8,
            },
            "`rope_scaling.short_factor` is [1.0]: must be a list of 4 positive numbers",
        ),
        (
            {"type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 1},
            "`rope_scaling.high_freq_factor` is 1: must be above low_freq_factor, 4.0",
        ),
    ],
)
def test_a_rope_that_cannot_be_is_named(scaling: object, part: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        read(**TINY, rope_scaling=scaling)
    assert part in str(caught.value)
