"""A group of two real processes over gloo."""

import subprocess
import sys
from pathlib import Path

import torch

from engines.parallel import TpGroup

RANK = """
import sys, torch, torch.distributed as dist
from engines.parallel import TpGroup
rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
group, x = TpGroup(rank=rank, size=2), torch.tensor([[1.0 + rank, 10.0 * rank]])
brought = group.gather(b"ab"[:rank], torch.device("cpu"))
print(group.all_gather(x).tolist(), group.all_reduce(x.clone()).tolist(), brought, flush=True)
dist.destroy_process_group()
"""


def test_two_ranks_sum_and_gather(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error::FutureWarning", "-c", RANK]
    ranks = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for rank in ranks:
        output, _ = rank.communicate(timeout=60)
        assert output.strip() == "[[1.0, 0.0, 2.0, 10.0]] [[3.0, 10.0]] [b'', b'a']"


def test_a_group_of_one_is_the_identity() -> None:
    x = torch.ones(2)
    assert TpGroup().all_reduce(x) is x
    assert TpGroup().all_gather(x) is x


class Doubling:
    """Takes vectors of two, as if another rank had the same."""

    def takes(self, x: torch.Tensor) -> bool:
        return len(x) == 2

    def sum(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x


def test_sums_of_an_engines_own_take_what_they_can_and_leave_the_rest() -> None:
    group = TpGroup(sums=Doubling())
    assert group.all_reduce(torch.ones(2)).tolist() == [2, 2]
    assert group.all_reduce(torch.ones(3)).tolist() == [1, 1, 1]
