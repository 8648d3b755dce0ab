"""Every module can be imported by itself: also those that only a machine with a GPU asks for."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
EXTRAS = {"ray"}  # libraries of extras that the tests do not install


def modules(package: str) -> list[str]:
    """Return the dotted names of all modules of a package, but scripts that start with the import."""
    files = sorted((ROOT / package).rglob("*.py"))
    names = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files]
    return [name.removesuffix(".__init__") for name in names if not name.endswith("__main__")]


@pytest.mark.parametrize("package", ["engines", "deployer"])
def test_every_module_can_be_imported(package: str) -> None:
    code = f"""
import importlib, sys
failed = []
for name in {modules(package)!r}:
    try:
        importlib.import_module(name)
    except Exception as error:
        if getattr(error, "name", None) in {EXTRAS!r}:
            continue
        failed.append(f"{{name}}: {{type(error).__name__}}: {{error}}")
sys.exit("\\n".join(failed) or None)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
