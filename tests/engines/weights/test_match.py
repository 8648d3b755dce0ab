from dataclasses import replace

import pytest
from internvl_golden import CASES, golden, weights

from engines.errors import CheckpointError
from engines.families import rules_for
from engines.weights.match import Claim, match
from engines.weights.parameters import parameters
from engines.weights.rules import NameRules, Rule, prefixed, rows

Shapes = dict[str, tuple[int, ...]]


def shapes_of(case: str) -> Shapes:
    return {name: tuple(tensor.shape) for name, tensor in weights(case).items()}


def match_case(case: str, shapes: Shapes) -> list[Claim]:
    spec = golden(case).spec
    return match(shapes, rules_for(spec), parameters(spec), origin="DIR")


@pytest.mark.parametrize("case", CASES)
def test_every_tensor_is_claimed_once_and_every_parameter_written(case: str) -> None:
    shapes = shapes_of(case)
    claims = match_case(case, shapes)
    assert sorted(claim.source for claim in claims) == sorted(shapes)
    assert {claim.parameter for claim in claims} == set(parameters(golden(case).spec))


def test_everything_wrong_is_in_one_message() -> None:
    shapes = shapes_of("qwen2")
    shapes["language_model.model.layers.1.self_attn.rotary_emb.inv_freq"] = (4,)
    del shapes["language_model.model.layers.0.self_attn.k_proj.bias"]
    shapes["mlp1.9.bias"] = shapes.pop("mlp1.3.bias")
    shapes["language_model.model.layers.3.input_layernorm.weight"] = (56,)
    shapes["vision_model.encoder.layers.1.mlp.fc1.weight"] = (64, 128)
    with pytest.raises(CheckpointError) as caught:
        match_case("qwen2", shapes)
    assert str(caught.value).splitlines() == [
        "the weights in DIR are not what its config.json describes: each tensor must be there once, in its "
        "shape, and no other; fetch the checkpoint again or correct config.json",
        "  2 tensors missing: `language_model.model.layers.0.self_attn.k_proj.bias` [8], `mlp1.3.bias` [56]",
        "  2 tensors that no name rule of this config claims: "
        "`language_model.model.layers.3.input_layernorm.weight` [56], `mlp1.9.bias` [56]",
        "  1 tensor of another shape: "
        "`vision_model.encoder.layers.1.mlp.fc1.weight` [64, 128] instead of [128, 64]",
    ]


def test_of_many_tensors_the_first_are_named_and_all_are_counted() -> None:
    shapes = shapes_of("qwen2")
    blocks = [name for name in sorted(shapes) if name.startswith("language_model.model.layers.")]
    for name in blocks:
        del shapes[name]
    with pytest.raises(CheckpointError) as caught:
        match_case("qwen2", shapes)
    (line,) = str(caught.value).splitlines()[1:]
    assert line.startswith(f"  {len(blocks)} tensors missing: `{blocks[0]}` ")
    assert line.endswith(f" and {len(blocks) - 6} more")
    assert line.count("`") == 12


def test_a_parameter_written_whole_and_in_part_is_refused() -> None:
    spec = golden("qwen2").spec
    table = rules_for(spec)
    whole = Rule(source="fused.{i}.qkv", target="decoder.layers.{i}.qkv.weight")
    shapes = shapes_of("qwen2") | {"fused.0.qkv": (72, 56)}
    with pytest.raises(
        CheckpointError, match=r"1 parameter written twice: `decoder\.layers\.0\.qkv\.weight` by fused\.0"
    ):
        match(shapes, NameRules(rules=(*table.rules, whole)), parameters(spec), origin="DIR")


def test_names_match_as_a_whole() -> None:
    shapes = shapes_of("qwen2")
    shapes["module.mlp1.3.bias"] = shapes.pop("mlp1.3.bias")
    with pytest.raises(
        CheckpointError, match=r"missing: `mlp1\.3\.bias`[^$]*claims: `module\.mlp1\.3\.bias`"
    ):
        match_case("qwen2", shapes)


def test_a_tied_head_may_be_missing_and_may_be_there() -> None:
    spec = golden("qwen2").spec
    tied = replace(spec, decoder=replace(spec.decoder, tied_head=True))
    shapes = shapes_of("qwen2")
    assert len(match(shapes, rules_for(tied), parameters(tied), origin="DIR")) == len(shapes)
    del shapes["language_model.lm_head.weight"]
    assert len(match(shapes, rules_for(tied), parameters(tied), origin="DIR")) == len(shapes)
    with pytest.raises(CheckpointError, match=r"1 tensor missing: `language_model\.lm_head\.weight`"):
        match(shapes, rules_for(spec), parameters(spec), origin="DIR")


def test_prefixes_go_before_both_names() -> None:
    assert prefixed(rows(("a", "b")), source="x.", target="y.") == (Rule(source="x.a", target="y.b"),)
