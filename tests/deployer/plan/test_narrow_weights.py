from dataclasses import replace

import pytest
from plan_cases import case, options, with_copy

from deployer.plan.case import Case
from deployer.plan.cautions import cautions
from deployer.plan.decoder_work import decoder_work
from deployer.plan.figures import figures_of
from deployer.plan.memory import memory_of
from deployer.plan.narrow_weights import narrow_weights
from deployer.plan.rates import expected, limit
from deployer.plan.step_times import decode_time, prefill_time
from deployer.plan.weight_bytes import bytes_of, weight_parts
from deployer.plan.workspace import decoder_bytes
from engines.turbomind.ops.linear_choice import reads_bf12
from engines.weights.decode_copy import MOST_ROWS_ALONE


def token_ms(of: Case, *, batch: int, at_limit: bool = True) -> float:
    rates = limit(of) if at_limit else expected(of)
    assert rates is not None
    return 1e3 * decode_time(of, decoder_work(of, weight_parts(of)), rates, batch=batch, context=1024).total_s


def test_a_quarter_of_the_decoders_weights_is_not_there() -> None:
    narrow, wide = weight_parts(case(weights="bf12")), weight_parts(case())
    for part in ("qkv", "o", "gate_up", "down", "head"):
        assert bytes_of(narrow, part) == pytest.approx(0.75 * bytes_of(wide, part), rel=1e-3)
    assert bytes_of(narrow, "embedding", "tower") == bytes_of(wide, "embedding", "tower")


def test_there_is_no_second_copy_of_what_lies_in_12_bits_alone() -> None:
    alone = case(weights="bf12")
    assert alone.second_copy.layers == {} and narrow_weights(alone).alone
    beside = narrow_weights(with_copy(case()))
    assert not beside.alone and beside.layers.keys() == narrow_weights(alone).layers.keys()


def test_76b_fits_one_h200_in_12_bits_alone() -> None:
    wide, narrow = case("76b"), case("76b", weights="bf12")
    assert memory_of(wide, weight_parts(wide)).refusal is not None
    memory = memory_of(narrow, weight_parts(narrow))
    assert memory.refusal is None and memory.kv_tokens > 32768


@pytest.mark.parametrize("batch", [1, 64])
def test_few_rows_take_what_they_take_with_a_second_copy(batch: int) -> None:
    for at_limit in (True, False):
        alone = token_ms(case(weights="bf12"), batch=batch, at_limit=at_limit)
        assert alone == pytest.approx(token_ms(with_copy(case()), batch=batch, at_limit=at_limit))


def test_the_plan_has_rows_read_12_bits_alone_as_far_as_the_kernels_do() -> None:
    for outputs in (4096, 6144, 28672):
        assert reads_bf12(num_rows=MOST_ROWS_ALONE, outputs=outputs, num_sms=132, alone=True)
    work = decoder_work(case(weights="bf12"), weight_parts(case(weights="bf12")))
    assert work.copy_rows == {"bf12": MOST_ROWS_ALONE}
    on_a100 = case(weights="bf12", device="a100")
    assert decoder_work(on_a100, weight_parts(on_a100)).copy_rows == {"bf12": 16}


def test_at_the_limit_nothing_is_unpacked_and_in_expectation_many_rows_are() -> None:
    alone, wide = case(weights="bf12"), case()
    assert token_ms(alone, batch=512) <= token_ms(wide, batch=512)
    took = token_ms(alone, batch=512, at_limit=False) - token_ms(wide, batch=512, at_limit=False)
    layers = [layer for name, layer in narrow_weights(alone).layers.items() if name != "decoder.head"]
    moved = sum(2 * layer.num_bytes + layer.saved_bytes for layer in layers)
    assert took == pytest.approx(1e3 * moved / (alone.hardware.memory_gbps * 1e9), rel=0.15)


def test_a_prompt_is_read_after_one_unpacking_a_step() -> None:
    times = []
    for one in (case(weights="bf12"), case()):
        rates, work = expected(one), decoder_work(one, weight_parts(one))
        assert rates is not None
        times.append(prefill_time(one, work, rates, tokens=4096).total_s)
    assert 1.0 < times[0] / times[1] < 1.1


def test_the_largest_layer_is_there_unpacked_while_many_rows_multiply_it() -> None:
    gate_up = 2 * 28672 * 4096
    assert decoder_bytes(case(weights="bf12")) - decoder_bytes(case()) == gate_up
    ranks = case(weights="bf12", tp=2)
    assert decoder_bytes(ranks) - decoder_bytes(case(tp=2)) == gate_up // 2


def test_layers_that_stay_in_16_bits_are_told_of() -> None:
    alone = case("2b", weights="bf12")
    assert not [
        line
        for line in cautions(alone, figures_of(alone, options()))
        if "16 bits" in line or "second copy" in line
    ]
    decoder = replace(alone.spec.decoder, ffn=8200)
    odd = replace(alone, spec=replace(alone.spec, decoder=decoder))
    (line,) = [line for line in cautions(odd, figures_of(odd, options())) if "stay in 16 bits" in line]
    assert line.startswith("24 linear layers of the decoder stay in 16 bits") and line.endswith(
        "`decoder.layers.0.down` and the like"
    )
