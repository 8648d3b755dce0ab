"""The measurement of docs/benchmarks.md, "What the server costs", works: tests/support/server_cost.py."""

from server_cost import Work, cost_us, script_us

from deployer.config.load import load_config
from deployer.generation.open_model import open_model
from deployer.prompt.assemble import PromptBuilder


async def test_a_streamed_request_with_a_picture_costs_time_and_its_answer_is_read() -> None:
    config = load_config(["+model=pocket_vl"])
    model = open_model(config.model)
    prompts = PromptBuilder(config, model.spec, model.folder, uncut_pixels=0)
    work = Work(pictured=True, streamed=True, at_once=2)
    assert 50 < await cost_us(config, prompts, work, count=8, tokens=3) < 1e6
    await prompts.aclose()


async def test_the_scripts_own_time_is_known() -> None:
    assert 0 < await script_us(2, count=2) < 1e6
