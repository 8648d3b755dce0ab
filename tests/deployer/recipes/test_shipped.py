"""Every recipe that ships composes, plans to fit, and promises what its plan says or what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from planned_recipes import SHIPPED

from deployer.config.tree import config_tree
from deployer.plan.decoder_work import decoder_work
from deployer.plan.plan import Plan
from deployer.plan.rates import expected
from deployer.plan.step_times import decode_time
from deployer.plan.weight_bytes import weight_parts
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.resolved import plan_of, resolve_recipe

SHORT_TOKENS = 256  # of text, for models whose sequences are shorter than the priced request
NOT_DEPLOYED_BY_NAME = {"local"}
MEASURED = [path for path in SHIPPED if "basis: measured" in path.read_text() and "h200" in path.stem]


def test_every_model_has_a_recipe() -> None:
    planned = {path.stem for path in SHIPPED}
    models = set(config_tree(None, ()).options("model")) - NOT_DEPLOYED_BY_NAME
    original = {name for name in models if not name.endswith("_hf")}  # the same networks in another layout
    without = {name for name in original if not any(recipe.startswith(f"{name}_") for recipe in planned)}
    assert not without


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_its_hardware(path: Path) -> None:
    resolved, header = resolve_recipe(path)
    options = resolved.options
    if header.expected is None:
        options = replace(options, prompt_tokens=SHORT_TOKENS)
    plan = plan_of(resolved.config, options, resolved.hardware)
    assert isinstance(plan, Plan), plan
    assert plan.fits, plan.verdict
    assert plan.runs_today
    if header.expected is None:
        assert plan.figures.memory.session_len < resolved.options.prompt_tokens + plan.case.image_tokens + 256
    elif header.expected.basis == "planned":
        assert header.expected.figures == pytest.approx(figures(summary(plan)), rel=0.05), (
            "the plan moved: python tests/support/planned_recipes.py writes the figures anew"
        )
    else:
        assert header.expected.machine and header.expected.commit, "measured: where, and with which commit"


@pytest.mark.parametrize("path", MEASURED, ids=lambda path: path.stem)
def test_what_was_measured_is_of_the_deployment_that_the_recipe_is_now(path: Path) -> None:
    """Figures of `bench=decode` (1,024 tokens in, 128 out), by the plan, which is within 15 % of them."""
    resolved, header = resolve_recipe(path)
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    assert isinstance(plan, Plan) and header.expected is not None
    found, rates, parts = header.expected.figures, expected(plan.case), weight_parts(plan.case)
    assert rates is not None
    work = decoder_work(plan.case, parts)

    def step_s(batch: int) -> float:
        return decode_time(plan.case, work, rates, batch=batch, context=1024 + 128 // 2).total_s

    batch = int(found["batch"])
    planned = {"token_ms": step_s(1) * 1000, "tokens_per_s": batch / step_s(batch)}
    if "kv_tokens" in found:
        planned["kv_tokens"] = figures(summary(plan))["kv_tokens"]
    assert {name: found[name] for name in planned} == pytest.approx(planned, rel=0.15)
