"""What an installation holds: every package and data file, and no top-level name but two."""

import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.assets import PACKAGED

ROOT = Path(__file__).parents[1]
MAPPED = ("chat_templates", "conf", "kernels", "recipes")


def data_files() -> Iterator[str]:
    """Yield each file that is read at run time, by its path in the wheel."""
    suffixes = {"conf": ".yaml", "chat_templates": ".jinja", "kernels": (".cu", ".cuh"), "recipes": ".yaml"}
    for folder in MAPPED:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.is_file() and file.name.endswith(suffixes[folder]):
                packaged = PACKAGED.get(folder, folder)
                yield f"deployer/{packaged}/{file.relative_to(ROOT / folder).as_posix()}"
    for top in ("deployer", "engines"):
        for file in sorted((ROOT / top).rglob("*")):
            if file.is_file() and file.suffix not in (".py", ".pyc"):
                yield file.relative_to(ROOT).as_posix()


def test_every_folder_of_code_is_a_package() -> None:
    """A folder without `__init__.py` would be left out of the wheel."""
    folders = {file.parent for top in ("deployer", "engines") for file in (ROOT / top).rglob("*.py")}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_every_package_is_listed_in_pyproject() -> None:
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    code = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("deployer", "engines")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(listed["packages"]) == code | set(listed["package-dir"])


def test_folders_of_files_hold_no_python() -> None:
    for folder in MAPPED:
        assert not list((ROOT / folder).rglob("*.py")), (
            f"{folder}/ is read as files and must not be importable"
        )


@pytest.mark.parametrize("name", ["kernels", "conf", "recipes", "chat_templates", "tests"])
def test_no_data_folder_can_be_imported_by_its_name(name: str, tmp_path: Path) -> None:
    code = f"import importlib.util as u; s = u.find_spec({name!r}); print(s and s.submodule_search_locations)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert str(ROOT) not in done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel as a user's pip does, but with the setuptools that is here."""
    pytest.importorskip("setuptools", reason="building a wheel without a network needs setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        ".",
    ]
    subprocess.run([*build, "-w", str(folder)], cwd=_clean_copy(folder), check=True, timeout=300)
    (found,) = folder.glob("*.whl")
    return found


def _clean_copy(folder: Path) -> Path:
    """Copy what git would hold of the project, so that a build leaves nothing in the tree."""
    import shutil

    copy = folder / "project"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".*", "tests", "outputs")
    shutil.copytree(ROOT, copy, ignore=skipped)
    return copy


def test_the_wheel_holds_every_file_that_is_read_at_run_time(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    missing = sorted(set(data_files()) - held)
    assert not missing


def test_the_wheel_holds_every_module_and_two_top_level_packages(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        file.relative_to(ROOT).as_posix()
        for top in ("deployer", "engines")
        for file in (ROOT / top).rglob("*.py")
    }
    assert modules <= held
    assert {name.partition("/")[0] for name in held if ".dist-info/" not in name} == {"deployer", "engines"}


def test_a_wheel_on_the_path_composes_and_explains(wheel: Path, tmp_path: Path) -> None:
    """The data folders are found below the package, with no checkout beside it."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = (
        "import sys; from deployer.cli import main; from deployer.assets import resource_dir; "
        "assert str(resource_dir('conf')).startswith(sys.argv[1]), resource_dir('conf'); "
        "sys.exit(main(['explain', 'engine.tp', '+recipe=internvl2_8b_h200']))"
    )
    site = str(tmp_path / "site")
    program = f"import sys; sys.path.insert(0, {site!r}); sys.argv = ['x', {site!r}]; exec({code!r})"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("engine.tp = 1")
