"""The least time of what steps did is the plan's own, where it says the same."""

import pytest
from plan_cases import case, with_copy

from deployer.plan.case import Case
from deployer.plan.decoder_work import decoder_work
from deployer.plan.phase_limit import phase_limit_s
from deployer.plan.rates import limit
from deployer.plan.step_times import decode_time, prefill_time
from deployer.plan.weight_bytes import weight_parts
from engines.stats import PhaseFigures


@pytest.mark.parametrize("what", [case(), with_copy(case())], ids=["16 bits", "12 bits"])
@pytest.mark.parametrize(("batch", "context", "steps"), [(1, 512, 3), (64, 4096, 10)])
def test_decode_steps_are_priced_as_the_plan_prices_them(
    what: Case, batch: int, context: int, steps: int
) -> None:
    rates, work = limit(what), decoder_work(what, weight_parts(what))
    keys = steps * batch * context
    done = PhaseFigures(
        phase="decode",
        seconds=1.0,
        steps=steps,
        rows=steps * batch,
        sampled=steps * batch,
        keys=keys,
        pairs=keys,
    )
    planned = steps * decode_time(what, work, rates, batch=batch, context=context).total_s
    assert phase_limit_s(work, rates, done) == pytest.approx(planned)


def test_a_prompt_is_priced_as_the_plan_prices_it() -> None:
    rates, work = limit(case()), decoder_work(case(), weight_parts(case()))
    tokens = 4096
    pairs = tokens * (tokens + 1) // 2
    done = PhaseFigures(
        phase="prefill", seconds=1.0, steps=1, rows=tokens, sampled=1, keys=tokens, pairs=pairs
    )
    planned = prefill_time(case(), work, rates, tokens=tokens).total_s
    assert phase_limit_s(work, rates, done) == pytest.approx(planned, rel=1e-3)
