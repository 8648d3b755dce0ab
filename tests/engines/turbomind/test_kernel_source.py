"""Reading kernel files with what they include."""

from pathlib import Path

import pytest

from engines.errors import KernelError
from engines.turbomind.kernel_source import kernel_dir, read_kernel


def test_headers_are_found_through_headers_once_each(tmp_path: Path) -> None:
    (tmp_path / "a.cu").write_text('#include "b.cuh"\n#include "c.cuh"\nint a;')
    (tmp_path / "b.cuh").write_text('#include "c.cuh"\nint b;')
    (tmp_path / "c.cuh").write_text("int c;")
    source = read_kernel("a.cu", tmp_path)
    assert source.text.endswith("int a;")
    assert [name for name, _ in source.headers] == ["b.cuh", "c.cuh"]


def test_a_missing_header_names_the_file_that_wants_it(tmp_path: Path) -> None:
    (tmp_path / "a.cu").write_text('#include "gone.cuh"')
    with pytest.raises(KernelError, match=r"kernel file `gone.cuh` \(included by `a.cu`\) is missing"):
        read_kernel("a.cu", tmp_path)


def test_every_shipped_kernel_can_be_read_and_includes_nothing_from_outside() -> None:
    for path in sorted(kernel_dir().glob("*.cu")):
        source = read_kernel(path.name)
        assert "#include <" not in source.text + "".join(text for _, text in source.headers)
