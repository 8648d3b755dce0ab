"""Whether timm is there, for the tests that hold a tower to it, in this process and in its children."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

OPERATORS = Path(__file__).parent / "torchvision_operators"


def imported_timm(patch: pytest.MonkeyPatch) -> Any:
    """Return timm, or skip with the reason; children of this process can import it too."""
    if importlib.util.find_spec("timm") is None:
        pytest.skip("timm is not installed (extra `timm`)")
    patch.setenv("PYTHONPATH", str(OPERATORS))
    path = OPERATORS / "sitecustomize.py"
    spec = importlib.util.spec_from_file_location("torchvision_operators", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # the operators last as long as the module
    spec.loader.exec_module(module)
    import timm

    return timm
