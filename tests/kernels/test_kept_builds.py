"""Builds that are kept from run to run: made once, named by all they depend on, and not forever."""

import os
import time
from dataclasses import replace
from pathlib import Path

import kept_builds
import pytest
from kept_builds import UNUSED_S, builds_folder, compiler_log, digest, kept

from engines.errors import KernelError
from engines.turbomind.kernel_source import KernelSource

SOURCE = KernelSource(name="a.cu", text='extern "C" __global__ void a() {}', headers=())


def test_a_build_is_made_once_and_whole_or_not_at_all(tmp_path: Path) -> None:
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        path.write_text("half")
        if len(made) == 1:
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        kept(tmp_path / "one", make)
    assert not (tmp_path / "one").exists()
    for _ in range(2):
        assert kept(tmp_path / "one", make).read_text() == "half"
    assert len(made) == 2
    assert all(path.name != "one" for path in made)


def test_names_differ_where_any_part_does() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""), ("ab", b"d")]
    assert len({digest(*each) for each in parts}) == len(parts)


def test_a_build_is_removed_when_no_run_has_used_it_of_late(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = builds_folder() / "inner"
    folder.mkdir()
    for name in ("old", "used"):
        (folder / name).touch()
        os.utime(folder / name, (0, time.time() - UNUSED_S - 60))
    kept(folder / "used", lambda path: pytest.fail("it is there"))
    builds_folder()
    assert [path.name for path in folder.iterdir()] == ["used"]


def test_a_log_is_asked_of_the_compiler_once_and_again_for_whatever_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cuda.bindings.nvrtc", reason="the extra `cuda` is not installed")
    real, asked = kept_builds.compile_cubin, []

    def noting(source, *, arch, constants):
        asked.append((source, arch, constants))
        return real(source, arch=arch, constants=constants)

    monkeypatch.setattr(kept_builds, "compile_cubin", noting)
    other = replace(SOURCE, text=SOURCE.text.replace("a()", "b()"))
    for source, arch, constants in (
        (SOURCE, "sm_80", {}),
        (SOURCE, "sm_90a", {}),
        (SOURCE, "sm_80", {"A": 1}),
        (other, "sm_80", {}),
    ):
        logs = {compiler_log(tmp_path, source, arch=arch, constants=constants) for _ in range(2)}
        assert len(logs) == 1 and "Compiling entry function" in logs.pop()
    assert len(asked) == 4
    broken = replace(SOURCE, text="no kernel")
    for _ in range(2):
        with pytest.raises(KernelError, match="does not compile"):
            compiler_log(tmp_path, broken, arch="sm_80", constants={})
