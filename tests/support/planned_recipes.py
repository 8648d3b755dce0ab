"""The planned figures of recipes/: what the plan says of each today.

python tests/support/planned_recipes.py

writes those anew that moved, after a formula or a file of conf/hardware changed.
"""

import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from deployer.assets import resource_dir
from deployer.plan.plan import Plan
from deployer.recipes.plan_summary import figures, summary
from deployer.recipes.resolved import plan_of, resolve_recipe

SHIPPED = sorted(resource_dir("recipes").glob("*.yaml"))
ROUNDED = 0.005  # share by which a figure may differ and still stand


def main() -> int:
    """Write figures that moved; everything else of a file stays as it is."""
    for path in SHIPPED:
        resolved, header = resolve_recipe(path)
        plan = plan_of(resolved.config, resolved.options, resolved.hardware)
        expected = header.expected
        if expected is None or expected.basis != "planned" or not isinstance(plan, Plan):
            continue
        now = figures(summary(plan))
        if any(abs(expected.figures.get(name, 0) - value) > ROUNDED * value for name, value in now.items()):
            path.write_text(_with_figures(path.read_text(encoding="utf-8"), now), encoding="utf-8")
            print(f"wrote {path.name}")
    return 0


def _with_figures(text: str, now: Mapping[str, float]) -> str:
    for name, value in now.items():
        text, found = re.subn(rf"(?m)^(      {name}: )[\d.]+", rf"\g<1>{value}", text)
        assert found == 1, f"{name} stands once among the figures"
    return re.sub(r"date: '[\d-]+'", f"date: '{datetime.now(UTC).date()}'", text)


if __name__ == "__main__":
    sys.exit(main())
