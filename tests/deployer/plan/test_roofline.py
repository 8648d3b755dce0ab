import pytest

from deployer.plan.roofline import all_reduce_bytes, joined, linear_time


def test_the_slower_of_streaming_and_computing_counts() -> None:
    assert linear_time(num_bytes=8e9, bytes_per_s=4e12, compute_s=1e-3) == (2e-3, "weights")
    assert linear_time(num_bytes=8e9, bytes_per_s=4e12, compute_s=3e-3) == (3e-3, "compute")


@pytest.mark.parametrize(("ranks", "share"), [(1, 0.0), (2, 1.0), (4, 1.5), (8, 1.75)])
def test_a_ring_sends_twice_all_slices_but_its_own(ranks: int, share: float) -> None:
    assert all_reduce_bytes(1000, ranks=ranks) == pytest.approx(1000 * share)


@pytest.mark.parametrize(
    ("linear_s", "attention_s", "link_s", "bound"), [(3, 2, 1, "weights"), (1, 3, 2, "kv"), (1, 2, 3, "link")]
)
def test_times_add_up_and_the_longest_binds(
    linear_s: float, attention_s: float, link_s: float, bound: str
) -> None:
    time = joined(
        linear_s=linear_s,
        linear_bound="weights",
        attention_s=attention_s,
        attention_bound="kv",
        link_s=link_s,
        other_s=0.5,
    )
    assert time.total_s == 6.5
    assert time.bound == bound
