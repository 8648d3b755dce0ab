"""What a process may still take: the limits of its cgroup and of those above it. What its tensors take."""

from pathlib import Path

import pytest
import torch

from engines.memory.device_memory import _available_cgroup_bytes, used_bytes


def cgroup(folder: Path, *, limit: str, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")


@pytest.mark.parametrize(
    ("outer", "inner", "left"), [("max", "1000", 900), ("500", "1000", 300), ("max", "max", 1 << 62)]
)
def test_the_narrowest_limit_of_our_cgroup_and_those_above_holds(
    tmp_path: Path, outer: str, inner: str, left: int
) -> None:
    """A unit of systemd lies below the root; a container sees its own cgroup as the root."""
    cgroup(tmp_path / "system.slice", limit=outer, used=200)
    cgroup(tmp_path / "system.slice" / "x.service", limit=inner, used=100)
    membership = tmp_path / "membership"
    membership.write_text("0::/system.slice/x.service\n")
    assert _available_cgroup_bytes(tmp_path, membership) == left


def test_a_container_is_held_to_its_root(tmp_path: Path) -> None:
    cgroup(tmp_path, limit="1000", used=400)
    membership = tmp_path / "membership"
    membership.write_text("0::/\n")
    assert _available_cgroup_bytes(tmp_path, membership) == 600
    assert _available_cgroup_bytes(tmp_path, tmp_path / "absent") == 600


def test_files_that_the_kernel_keeps_in_memory_and_can_drop_are_not_taken(tmp_path: Path) -> None:
    """A checkpoint that was mapped and read counts as used, in a container as on a machine."""
    cgroup(tmp_path, limit="1000", used=900)
    (tmp_path / "memory.stat").write_text("anon 300\nactive_file 200\ninactive_file 350\nshmem 10\n")
    assert _available_cgroup_bytes(tmp_path, tmp_path / "absent") == 450


def test_on_a_cpu_tensors_are_counted_and_no_other_memory() -> None:
    cpu = torch.device("cpu")
    before = used_bytes(cpu)
    whole, other = torch.zeros(1 << 18), bytearray(1 << 20)
    part = whole[3:]
    assert used_bytes(cpu) - before == whole.nbytes
    del whole, other
    assert used_bytes(cpu) - before == 1 << 20
    del part
    assert used_bytes(cpu) == before
