"""A row of the kernel table says how near a kernel is to what its bytes and operations need at least."""

import pytest

from engines.turbomind.bench.table import Ceilings, Row, line

CEILINGS = Ceilings(gbps=4000.0, tflops=800.0)


@pytest.mark.parametrize(
    ("num_bytes", "num_flops", "rate", "of_limit"),
    [
        (4e7, 0.0, 1.0, "50.0%"),  # 10 us of 20
        (4e7, 12e9, 1.0, "75.0%"),  # operations need 15 us
        (4e7, 12e9, 2.0, "50.0%"),  # of a format that multiplies twice as fast 7.5
    ],
)
def test_the_longer_of_bytes_and_operations_is_the_limit(
    num_bytes: float, num_flops: float, rate: float, of_limit: str
) -> None:
    row = Row(op="product", shape="M=1", us=20.0, num_bytes=num_bytes, num_flops=num_flops, rate=rate)
    assert line(row, CEILINGS).split()[-1] == of_limit
