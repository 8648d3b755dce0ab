"""The plan's formulas for the server that runs: what tokens and pictures cost on its own device."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import msgspec
import yaml

from deployer.assets import resource_dir
from deployer.config.schema import DeployConfig
from deployer.plan.case import Case, case_of
from deployer.plan.decoder_work import DecoderWork, decoder_work
from deployer.plan.hardware import Hardware
from deployer.plan.rates import Rates, expected, limit
from deployer.plan.step_times import encode_time, prefill_time
from deployer.plan.weight_bytes import WeightPart, weight_parts
from engines.messages import Ready
from engines.spec import ModelSpec
from engines.vision.parts import ImagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class Pricing:
    """One deployment on the hardware option that describes its device."""

    case: Case
    parts: list[WeightPart]
    work: DecoderWork
    rates: Rates  # measured ones where there are any, else the limit
    limits: Rates

    @classmethod
    def of(cls, config: DeployConfig, spec: ModelSpec, ready: Ready) -> Self | None:
        """Return the prices of a started deployment; None where no option of conf/hardware is its device."""
        hardware = hardware_of(ready.device)
        if hardware is None:
            return None
        case = case_of(config, spec, hardware)
        parts = weight_parts(case)
        return cls(
            case=case,
            parts=parts,
            work=decoder_work(case, parts),
            rates=expected(case) or limit(case),
            limits=limit(case),
        )

    def kv_bytes(self, tokens: int) -> int:
        """Return bytes of cache on each rank."""
        return tokens * self.work.kv_token_bytes

    @property
    def has_times(self) -> bool:
        """Whether the hardware option is this very device; that of CPUs is some desktop's."""
        return self.case.hardware.kind != "cpu"

    def encode_ms(self, plan: ImagePlan) -> float | None:
        """Return milliseconds that the vision tower takes for a picture alone; None: not known."""
        if not self.has_times:
            return None
        return encode_time(self.case, self.parts, self.rates, tiles=plan.num_tiles, plan=plan) * 1e3

    def prefill_ms(self, tokens: int) -> float | None:
        """Return milliseconds that the decoder takes to read so many tokens alone; None: not known."""
        if not self.has_times:
            return None
        return prefill_time(self.case, self.work, self.rates, tokens=tokens).total_s * 1e3

    def basis(self) -> dict[str, Any]:
        """Return what the times rest on."""
        return {
            "hardware": self.case.hardware.name,
            "figures": self.case.hardware.basis,
            "rates": None if not self.has_times else "limit" if self.rates.reached is None else "expected",
        }


def hardware_of(device: str) -> Hardware | None:
    """Return the option of conf/hardware that an engine's device is; None where there is none.

    An option `a100_40g` is an A100 whose name says 40 GB, `a100` any other.
    """
    options = [_read(path) for path in sorted((resource_dir("conf") / "hardware").glob("*.yaml"))]
    if device.startswith("cpu"):
        return next((one for one in options if one.kind == "cpu"), None)
    plain = re.sub(r"[^a-z0-9]", "", device.lower())
    fitting = [one for one in options if all(word in plain for word in one.name.split("_"))]
    return max(fitting, key=lambda one: len(one.name), default=None)


def _read(path: Path) -> Hardware:
    return msgspec.convert(yaml.safe_load(path.read_text(encoding="utf-8")), Hardware)
