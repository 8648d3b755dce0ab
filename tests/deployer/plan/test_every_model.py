"""One model of every family is planned: each of its tensors belongs to a row of the table."""

import pytest
from deployed import deployed
from plan_cases import hardware, options

from deployer.plan.command import make_plan

# With two towers, separators, several of each.
MODELS = (
    "deepseek_vl_1_3b_chat",
    "deepseek_vl_7b_chat",
    "internvl2_8b",
    "llava_v1_5_7b",
    "llava_v1_6_34b",
    "llava_v1_6_mistral_7b_hf",
    "mini_gemini_7b",
    "mini_gemini_13b_hd",
    "yi_vl_34b",
)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_is_planned(model: str) -> None:
    plan = make_plan(deployed(model), options(), hardware("h200"))
    rows = {row.name: row.num_bytes for row in plan.figures.memory.rows}
    assert rows["vision tower"] > 2 * 300e6


def test_a_second_tower_counts_as_vision() -> None:
    def tower_bytes(model: str) -> int:
        plan = make_plan(deployed(model), options(), hardware("h200"))
        return {row.name: row.num_bytes for row in plan.figures.memory.rows}["vision tower"]

    convnext = 196_227_264
    assert tower_bytes("mini_gemini_7b") - tower_bytes("llava_v1_5_7b") == 2 * convnext
