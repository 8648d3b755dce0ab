from dataclasses import replace
from typing import Any

import pytest
from plan_cases import spec
from quantizing import METHOD

from engines.errors import CheckpointError
from engines.quant.fitted_method import fitted

SPEC = spec("1b")  # 896 and 4864 inputs


@pytest.mark.parametrize(("ffn", "size"), [(4864, 128), (704, 64), (4880, 16), (904, 8)])
def test_a_group_is_the_largest_up_to_128_that_divides_every_layer(ffn: int, size: int) -> None:
    model = replace(SPEC, decoder=replace(SPEC.decoder, ffn=ffn))
    assert fitted(replace(METHOD, group_size=0), model).group_size == size


def test_a_group_that_was_asked_for_is_kept_or_refused() -> None:
    assert fitted(replace(METHOD, group_size=32), SPEC).group_size == 32
    assert fitted(replace(METHOD, group_size=None), SPEC).group_size is None
    with pytest.raises(CheckpointError, match=r"group_size=96: does not divide the inputs 896 of qkv"):
        fitted(replace(METHOD, group_size=96), SPEC)
    odd = replace(SPEC, decoder=replace(SPEC.decoder, ffn=1001))
    with pytest.raises(CheckpointError, match="must be multiples of 8 for 4-bit formats; use fp8 or int8"):
        fitted(replace(METHOD, group_size=0), odd)


@pytest.mark.parametrize("changes", [{"kind": "visual_experts"}, {"plora_rank": 8}])
def test_decoders_with_more_than_one_path_are_refused(changes: dict[str, Any]) -> None:
    model = replace(SPEC, decoder=replace(SPEC.decoder, **changes))
    with pytest.raises(CheckpointError, match="has experts or additions for image rows"):
        fitted(METHOD, model)
