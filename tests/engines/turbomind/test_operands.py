"""Plans of launches that are kept from call to call."""

import pytest
import torch

from engines.errors import KernelError
from engines.turbomind.operands import planned
from engines.turbomind.ops.norm import rms_norm


def test_a_plan_is_made_once_for_operands_that_check_sees_alike(gpu) -> None:
    made: list[int] = []

    def plan() -> int:
        made.append(1)
        return len(made)

    x = torch.zeros(4, 32, dtype=torch.bfloat16, device=gpu.device)
    assert planned(gpu, "kept", (x,), plan, 7) == planned(gpu, "kept", (x.clone(),), plan, 7) == 1
    for other, setting in ((x[:2], 7), (x[:, :16], 7), (x.half(), 7), (x[:, 1:], 7), (x, 8)):
        planned(gpu, "kept", (other,), plan, setting)
    assert len(made) == 6


def test_an_operand_that_moved_is_checked_again(gpu) -> None:
    weight = torch.ones(32, dtype=torch.bfloat16, device=gpu.device)
    memory = torch.zeros(65, dtype=torch.bfloat16, device=gpu.device)
    rms_norm(gpu, memory[:64].view(2, 32), weight, 1e-5)
    with pytest.raises(KernelError, match="2 bytes past a multiple of 16"):
        rms_norm(gpu, memory[1:].view(2, 32), weight, 1e-5)
