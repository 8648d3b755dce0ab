"""The arrows between the parts: who may import whom, and what stays out until it is needed."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def modules(top: str) -> list[Path]:
    return sorted(path for path in (ROOT / top).rglob("*.py") if "__pycache__" not in path.parts)


def imports(file: Path) -> Iterator[str]:
    """Yield every module that a file imports, at whatever depth."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def users_of(names: tuple[str, ...], files: list[Path]) -> list[str]:
    def uses(file: Path) -> bool:
        return any(name == used or name.startswith(f"{used}.") for name in imports(file) for used in names)

    return [file.relative_to(ROOT).as_posix() for file in files if uses(file)]


def test_engines_never_import_the_deployer() -> None:
    assert users_of(("deployer",), modules("engines")) == []


def test_the_scheduler_and_the_networks_know_no_engine() -> None:
    shared = [*modules("engines/schedule"), *modules("engines/decoder"), *modules("engines/vision")]
    assert users_of(("engines.turbomind", "engines.pytorch"), shared) == []


def test_towers_and_projectors_know_no_decoder() -> None:
    assert users_of(("engines.decoder",), modules("engines/vision")) == ["engines/vision/vlm.py"]


def test_only_the_tower_of_timm_imports_it_and_nothing_torchvision() -> None:
    files = modules("deployer") + modules("engines")
    assert users_of(("torchvision", "timm"), files) == ["engines/vision/towers/timm_model.py"]
    torch_users = ("engines.vision.towers.timm_model", "engines.vision.towers.timm_tower")
    assert users_of(torch_users, files) == [
        "engines/vision/towers/timm_sizes.py",  # in a process of its own
        "engines/vision/towers/timm_spec.py",  # as a tower is built
        "engines/vision/towers/timm_tower.py",
    ]


def test_remote_code_and_pickles_are_out() -> None:
    files = modules("deployer") + modules("engines")
    assert users_of(("pickle", "cloudpickle", "dill"), files) == []
    trusting = [file for file in files if "trust_remote_code=True" in file.read_text(encoding="utf-8")]
    assert trusting == []


def test_yaml_is_only_read_with_a_safe_loader() -> None:
    for file in modules("deployer") + modules("engines"):
        text = file.read_text(encoding="utf-8")
        assert "yaml.unsafe" not in text and "UnsafeLoader" not in text and "hydra.utils" not in text, file


@pytest.mark.parametrize(
    "words",
    [
        ["explain", "+model=internvl2_8b"],
        ["list", "models"],
        ["--help"],
        ["+model=internvl2_8b", "engine.tp=3"],  # a fault is found before anything slow
    ],
)
def test_torch_stays_out_until_something_runs(words: list[str]) -> None:
    heavy = ("torch", "transformers", "tokenizers", "sentencepiece")
    program = (
        "import sys; from deployer.cli import main; main(sys.argv[1:]); "
        f"found = [name for name in {heavy!r} if name in sys.modules]; sys.exit(repr(found) if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_explain_imports_no_web_server_either() -> None:
    program = (
        "import sys; from deployer.cli import main; main(['explain', '+model=internvl2_8b']); "
        "sys.exit('fastapi' in sys.modules or 'uvicorn' in sys.modules or 'rich' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_help_imports_no_hydra() -> None:
    for words in (["--help"], ["--version"], ["nonsense"], ["list", "models"], ["completion", "bash"]):
        program = (
            f"import sys; from deployer.cli import main; main({words!r}); sys.exit('hydra' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, (words, done.stderr)


@pytest.mark.parametrize("top", ["deployer", "engines"])
def test_files_stay_short_and_are_named_for_what_they_hold(top: str) -> None:
    vague = {"manager", "handler", "util", "utils", "common", "misc", "base", "core", "helpers"}
    assert [file for file in modules(top) if file.stem in vague] == []
    assert [file for file in modules(top) if len(file.read_text(encoding="utf-8").splitlines()) > 300] == []
