from dataclasses import replace

import pytest
from plan_cases import case

from deployer.plan.case import Case
from deployer.plan.limits import largest_batch, largest_context
from deployer.plan.memory import Memory, memory_of
from deployer.plan.weight_bytes import weight_parts


def with_pages(num_pages: int, *, session_len: int | None = None) -> tuple[Case, Memory]:
    """Return InternVL2-8B with so many pages of 64 tokens."""
    options = case().options
    scheduler = replace(options.scheduler, session_len=session_len)
    changed = replace(options, kv=replace(options.kv, num_pages=num_pages), scheduler=scheduler)
    what = replace(case(), options=changed)
    return what, memory_of(what, weight_parts(what))


@pytest.mark.parametrize(
    ("context", "batch", "limit"),
    [
        (64, 128, "engine.max_batch_size"),
        (640, 100, "KV pages"),
        (641, 90, "KV pages"),
        (40_000, 0, "the model"),
    ],
)
def test_a_batch_is_bound_by_pages_options_or_the_model(context: int, batch: int, limit: str) -> None:
    found = largest_batch(*with_pages(1000), context=context)
    assert (found.batch, found.limit) == (batch, limit)


@pytest.mark.parametrize(
    ("batch", "context", "limit"),
    [
        (1, 32_768, "the model"),
        (10, 6400, "KV pages"),
        (128, 448, "KV pages"),
        (129, 0, "engine.max_batch_size"),
    ],
)
def test_a_context_is_bound_by_pages_options_or_the_model(batch: int, context: int, limit: str) -> None:
    found = largest_context(*with_pages(1000), batch=batch)
    assert (found.context, found.limit) == (context, limit)


def test_a_session_that_was_asked_for_is_named_as_the_limit() -> None:
    found = largest_context(*with_pages(1000, session_len=4096), batch=1)
    assert (found.context, found.limit) == (4096, "engine.session_len")
    assert largest_batch(*with_pages(1000, session_len=4096), context=5000).limit == "engine.session_len"
