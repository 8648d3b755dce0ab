"""Options of `deploy parity`; values and comments in `conf/parity/`. Torch-free."""

from dataclasses import dataclass
from typing import Literal

from deployer.config.ranges import NOT_NEGATIVE, POSITIVE, range_faults
from deployer.errors import ConfigError

Dtype = Literal["float32", "float16", "bfloat16"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ParityOptions:
    """How the paths are cut, and how close is close enough."""

    output: Literal["table", "json"]
    chunk_tokens: int
    page_tokens: int
    float32_error: float
    float16_error: float
    bfloat16_error: float
    float16_tie: float
    bfloat16_tie: float

    def tolerance(self, dtype: Dtype) -> "Tolerance":
        """Return what holds for a compute dtype."""
        if dtype == "float32":
            return Tolerance(error=self.float32_error, relative=False, tie=0.0)
        if dtype == "float16":
            return Tolerance(error=self.float16_error, relative=True, tie=self.float16_tie)
        return Tolerance(error=self.bfloat16_error, relative=True, tie=self.bfloat16_tie)


@dataclass(frozen=True, kw_only=True, slots=True)
class Tolerance:
    """How close results must be."""

    error: float
    relative: bool  # of the reference's length; False: the largest single difference
    tie: float  # share of the logits' root mean square; 0: tokens must be equal


def check_options(options: ParityOptions) -> None:
    """Raise ConfigError with every value that nothing can be held to."""
    allowed = {
        "chunk_tokens": POSITIVE,
        "page_tokens": POSITIVE,
        "float32_error": NOT_NEGATIVE,
        "float16_error": NOT_NEGATIVE,
        "bfloat16_error": NOT_NEGATIVE,
        "float16_tie": NOT_NEGATIVE,
        "bfloat16_tie": NOT_NEGATIVE,
    }
    faults = range_faults("parity", options, allowed)
    if options.page_tokens & (options.page_tokens - 1):
        faults.append(f"parity.page_tokens={options.page_tokens}: must be a power of two, as 16")
    if faults:
        raise ConfigError(faults)
