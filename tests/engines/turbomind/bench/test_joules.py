"""What the energy bench is asked and how its lines read."""

import pytest

from engines.turbomind.bench.energy import Spent
from engines.turbomind.bench.energy_cases import Case
from engines.turbomind.bench.joules import PARTS, line, main


@pytest.mark.parametrize(
    ("amount", "unit", "shown"), [(64, "token", "65.625 mJ/token"), (234_881_024, "B", "17881.393 pJ/B")]
)
def test_a_line_says_time_energy_energy_of_a_unit_power_and_clock(
    amount: float, unit: str, shown: str
) -> None:
    text = line(
        "a step", Case(name="a", calls=[], amount=amount, unit=unit), Spent(us=6e3, watts=700, mhz=1450)
    )
    assert text.split() == [
        "a",
        "step",
        "6000.0",
        "us",
        "4200.00",
        "mJ",
        *shown.split(),
        "700",
        "W",
        "1450",
        "MHz",
    ]


def test_a_part_that_is_unknown_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["step"])
    error = capsys.readouterr().err
    assert "'step'" in error
    assert all(part in error for part in PARTS)
