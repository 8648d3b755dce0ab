"""What a check found: ok, a warning or an error, each with the part it belongs to; and how it is printed."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from deployer.output import Output
from deployer.table import paint

SCHEMA = 1
Level = Literal["ok", "warning", "error"]
_STYLES: dict[Level, str] = {"ok": "dim", "warning": "yellow", "error": "red"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One answer of a check."""

    level: Level
    part: str
    text: str


def has_errors(findings: Sequence[Finding]) -> bool:
    """Tell whether any finding is an error."""
    return any(finding.level == "error" for finding in findings)


def print_findings(findings: Sequence[Finding], verdict: str, *, output: Output) -> None:
    """Print every finding and the verdict on standard output."""
    if output == "json":
        rows = [asdict(finding) for finding in findings]
        failed = has_errors(findings)
        print(
            json.dumps({"schema": SCHEMA, "ok": not failed, "verdict": verdict, "findings": rows}, indent=2)
        )
        return
    width = max((len(finding.part) for finding in findings), default=0)
    for finding in findings:
        level = paint(f"{finding.level:7}", _STYLES[finding.level], out=sys.stdout)
        print(f"{level}  {finding.part:{width}}  {finding.text}")
    if verdict:
        print(verdict)
