from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.config.unbuilt import Unbuilt, UnbuiltValueError

VALUE: Any = Unbuilt()


@pytest.mark.parametrize(
    "ask",
    [
        lambda: VALUE > 1,
        lambda: VALUE <= 1,
        lambda: VALUE > 3,
        lambda: VALUE == "auto",
        lambda: VALUE != "auto",
        lambda: VALUE in ("cuda", "auto"),
        lambda: {VALUE: 1},
        lambda: 8 % VALUE,
        lambda: VALUE - 1,
        lambda: VALUE & 1,
        lambda: bool(VALUE),
        lambda: list(VALUE),
        lambda: f"{VALUE}",
        lambda: VALUE.strip(),
        lambda: Path(VALUE),
    ],
)
def test_whatever_is_asked_of_it_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(UnbuiltValueError):
        ask()
