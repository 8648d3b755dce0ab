"""The page of the kernels has a line for every file of the folder, and figures of every kernel."""

import re
from pathlib import Path

from engines.turbomind.kernel_source import kernel_dir

FOLDER = Path(__file__).parents[2] / "kernels"


def test_every_file_of_the_folder_stands_in_a_table_of_its_readme() -> None:
    rows = [
        line for line in (FOLDER / "README.md").read_text(encoding="utf-8").splitlines() if line[:1] == "|"
    ]
    files = [file.name for suffix in ("*.cu", "device/*.cuh") for file in kernel_dir().glob(suffix)]
    assert len(files) > 60
    assert [file for file in sorted(files) if not any(f"`{file}`" in row for row in rows)] == []


def test_every_kernel_has_figures() -> None:
    page = (FOLDER / "README.md").read_text(encoding="utf-8").partition("## What a kernel reaches")[2]
    figures = set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [\d.,]+", page, re.MULTILINE))
    without = []
    for file in sorted(kernel_dir().glob("*.cu")):
        entries = set(re.findall(r'extern "C"[^;{]*?void (\w+)\(', file.read_text(encoding="utf-8")))
        assert entries, file
        if not entries & figures:
            without.append(file.name)
    assert without == []
