"""Every recipe that ships composes, plans to fit, and promises what its plan says."""

from pathlib import Path

import pytest

from deployer.assets import resource_dir
from deployer.plan.plan import Plan
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.resolved import plan_of, resolve_recipe

SHIPPED = sorted(resource_dir("recipes").glob("*.yaml"))


def test_recipes_ship() -> None:
    assert {"pocket_vl_cpu", "internvl2_8b_h200", "internvl2_76b_l40s"} <= {path.stem for path in SHIPPED}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_fits_its_hardware(path: Path) -> None:
    resolved, header = resolve_recipe(path)
    plan = plan_of(resolved.config, resolved.options, resolved.hardware)
    assert isinstance(plan, Plan)
    assert plan.fits, plan.verdict
    assert header.expected is not None
    if header.expected.basis == "planned":
        expected = header.expected.figures
        assert expected == pytest.approx(figures(summary(plan)), rel=0.1), (
            f"the plan moved: write {path.name} anew with `deploy recipe new`"
        )
