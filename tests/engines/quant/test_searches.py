"""AWQ, GPTQ and SmoothQuant against plain rounding, on inputs that are what they are for."""

from dataclasses import replace

import pytest
import torch
from quantizing import METHOD
from torch import Tensor

from engines.quant import gptq
from engines.quant.awq import output_error, search_scale
from engines.quant.rounding import Codes, group_parameters, round_groups, round_outputs
from engines.quant.smooth import search_migration

OUTPUTS, INPUTS, GROUP = 48, 64, 16


def weight(seed: int = 0) -> Tensor:
    return torch.randn(OUTPUTS, INPUTS, generator=torch.Generator().manual_seed(seed)) * 0.05


def inputs(*, loud: int = 3, factor: float = 30.0) -> Tensor:
    """Return correlated rows, some inputs of which are much larger than the others."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(512, INPUTS // 4, generator=generator) @ torch.randn(
        INPUTS // 4, INPUTS, generator=generator
    )
    x = x + 0.3 * torch.randn(512, INPUTS, generator=generator)
    x[:, :: INPUTS // loud] *= factor
    return x


def error(x: Tensor, plain: Tensor, other: Tensor) -> float:
    return float((x @ (other - plain).T).square().sum())


def same(values: Tensor) -> Tensor:
    return values


def test_the_error_of_the_gram_matrix_is_that_of_the_outputs() -> None:
    x, plain, other = inputs(), weight(), weight(1)
    assert output_error(plain, other, x.T @ x) == pytest.approx(error(x, plain, other), rel=1e-3)


def test_awq_scales_up_what_carries_much_and_loses_less() -> None:
    x, plain = inputs(), weight()
    scale = search_scale(plain, x.T @ x, x.abs().mean(0), group_size=GROUP, shared=same)
    loud = x.abs().mean(0) > 5 * x.abs().mean(0).median()
    assert scale[loud].mean() > 2 * scale[~loud].mean()
    rounded = round_groups(plain * scale, GROUP).dequantized() / scale
    assert error(x, plain, rounded) < 0.5 * error(x, plain, round_groups(plain, GROUP).dequantized())


def test_awq_leaves_a_layer_alone_where_nothing_is_better() -> None:
    plain = torch.randint(-7, 8, (OUTPUTS, INPUTS)).float() / 7
    plain[:, ::GROUP], plain[:, 1::GROUP] = 1.0, -8 / 7  # every group spans 15 steps: no rounding error
    x = inputs()
    scale = search_scale(plain, x.T @ x, x.abs().mean(0), group_size=GROUP, shared=same)
    assert torch.equal(scale, torch.ones(INPUTS))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("act_order", [False, True])
@pytest.mark.parametrize("group", [GROUP, None])
def test_gptq_makes_up_for_its_errors(group: int | None, act_order: bool, symmetric: bool) -> None:
    x, plain = inputs(factor=3.0), weight()
    how = replace(METHOD, format="gptq", group_size=group, act_order=act_order, symmetric=symmetric)
    codes = gptq.solve(plain, x.T @ x, how)
    assert codes.codes_OI.max() <= 15
    assert codes.zeros_OG is not None
    assert 1 <= int(codes.zeros_OG.min()) <= int(codes.zeros_OG.max()) <= 15
    assert (codes.group_I is not None) == act_order
    nearest = round_groups(plain, group or INPUTS).dequantized()
    assert error(x, plain, codes.dequantized()) < 0.6 * error(x, plain, nearest)


def test_gptq_with_inputs_that_never_come_or_come_together_has_a_solution() -> None:
    x = inputs()
    x[:, 5] = 0
    x[:, 7] = x[:, 8]
    codes = gptq.solve(weight(), x.T @ x, replace(METHOD, format="gptq", damping=1e-9))
    assert torch.isfinite(codes.dequantized()).all()


def test_a_larger_damping_changes_the_codes() -> None:
    x = inputs()
    little, much = (
        gptq.solve(weight(), x.T @ x, replace(METHOD, format="gptq", damping=damping))
        for damping in (0.01, 1.0)
    )
    assert not torch.equal(little.codes_OI, much.codes_OI)


def test_smooth_quant_moves_outliers_into_the_weights() -> None:
    x, plain = inputs(factor=100.0), weight()
    scale = search_migration(plain, x, x.abs().amax(0), shared=same)

    def int8(rows: Tensor, matrix: Tensor) -> Tensor:
        made: list[Codes] = [round_outputs(rows, "int8"), round_outputs(matrix, "int8")]
        return made[0].dequantized() @ made[1].dequantized().T

    wanted = x @ plain.T
    before, after = (int8(x / s, plain * s) - wanted for s in (torch.ones(INPUTS), scale))
    assert after.square().sum() < 0.5 * before.square().sum()


def test_scales_are_shared_where_a_layer_before_can_only_undo_them_together() -> None:
    x = inputs()

    def pairs(values: Tensor) -> Tensor:
        return values.view(-1, 2).mean(1, keepdim=True).expand(-1, 2).flatten()

    scale = search_scale(weight(), x.T @ x, x.abs().mean(0), group_size=GROUP, shared=pairs)
    assert torch.equal(scale[::2], scale[1::2])


@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.2, 1.0), (-3.0, -1.0), (0.0, 0.0), (-0.01, 7.0)])
@pytest.mark.parametrize("symmetric", [False, True])
def test_a_group_reaches_from_its_low_to_its_high_end(ends: tuple[float, float], symmetric: bool) -> None:
    low, high = (torch.tensor(end) for end in ends)
    scale, zero = group_parameters(low, high, symmetric=symmetric)
    assert 1 <= float(zero) <= 15
    for end in ends:
        code = min(max(round(end / float(scale)) + float(zero), 0), 15)
        assert (code - float(zero)) * float(scale) == pytest.approx(end, abs=0.51 * float(scale) + 1e-4)
