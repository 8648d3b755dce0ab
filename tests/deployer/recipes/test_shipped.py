"""Every recipe that ships composes, plans to fit, and promises what its plan says or what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from planned_recipes import SHIPPED

from deployer.config.tree import config_tree
from deployer.plan.plan import Plan
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.resolved import plan_of, resolve_recipe

SHORT_TOKENS = 256  # of text, for models whose sequences are shorter than the priced request
NOT_DEPLOYED_BY_NAME = {"local"}


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
