"""InternVL2-8B on one H200: 50 text tokens and the two tags, one unique picture, 64 tokens out.

Computed elsewhere from the same ceilings: for one tile about 6.6 ms to the first token and 114 requests a
second, for 1792 x 1344 (12 tiles and a thumbnail) about 75 ms and 12.5. Those round more than we do.
"""

from dataclasses import replace

import pytest
from plan_cases import case, options

from deployer.plan.decoder_work import decoder_work
from deployer.plan.rates import limit
from deployer.plan.weight_bytes import weight_parts
from deployer.plan.workload import WorkloadTimes, workload_of, workload_times


def times(size: list[int], *, batch: int) -> WorkloadTimes:
    """Return the times of a request with one picture."""
    asked = options(prompt_tokens=52, output_tokens=64, image_size=size)
    parts = weight_parts(case())
    return workload_times(
        case(), workload_of(case(), asked), parts, decoder_work(case(), parts), limit(case()), batch=batch
    )


@pytest.mark.parametrize(
    ("size", "tokens", "first_token_ms", "requests_per_s"),
    [([448, 448], 308, 6.6, 114), ([1792, 1344], 3380, 75, 12.5)],
)
def test_pictures_cost_what_was_computed_elsewhere(
    size: list[int], tokens: int, first_token_ms: float, requests_per_s: float
) -> None:
    asked = options(prompt_tokens=52, image_size=size)
    assert workload_of(case(), asked).prompt_tokens == tokens
    found = times(size, batch=128)
    assert found.first_token_ms == pytest.approx(first_token_ms, rel=0.05)
    assert found.requests_per_s == pytest.approx(requests_per_s, rel=0.05)


def test_the_first_token_of_a_tile_is_its_operations_over_the_rate() -> None:
    # 741 GFLOP to encode; 308 rows of 6.979 G weights, one of the head, 308^2 / 2 pairs of 524,288.
    flops = 740.8e9 + 2 * 308 * 6_979_321_856 + 2 * 92_608 * 4096 + 308**2 / 2 * 4 * 32 * 32 * 128
    assert times([448, 448], batch=1).first_token_ms == pytest.approx(flops / 790e12 * 1e3, rel=1e-4)


def test_the_first_token_waits_for_the_encoder_and_the_whole_prompt() -> None:
    found = times([1792, 1344], batch=1)
    assert found.encode_ms == pytest.approx(13 * 0.9377, rel=1e-3)
    assert found.first_token_ms > found.encode_ms + found.first_token_text_ms


def test_several_pictures_add_up() -> None:
    found = workload_of(case(), options(images=3, image_size=[448, 448]))
    assert found.picture is not None
    assert (found.num_images, found.picture.num_tiles, found.image_tokens) == (3, 1, 768)
    assert found.total_tokens == 1024 + 768 + 256


def test_a_text_model_has_no_pictures() -> None:
    text = replace(case(), spec=replace(case().spec, vision=None))
    found = workload_of(text, options(images=3))
    assert (found.num_images, found.image_tokens) == (0, 0)


def test_where_nothing_runs_nothing_is_served() -> None:
    assert times([448, 448], batch=0).requests_per_s == 0
