"""What a quantization cost: sizes, perplexity, next tokens, answers, and the layers that lost most."""

import json
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from deployer.quantize.quality import Quality, print_quality
from deployer.table import print_table

MOST_LOSING = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """One quantized copy."""

    model: str
    format: str
    group_size: int | None
    out: str
    samples: int
    tokens: int
    seconds: float
    peak_bytes: int  # memory of the device that was taken at once; on a CPU, of the process
    bytes_before: int
    bytes_after: int
    perplexity_before: float
    perplexity_after: float
    judged_tokens: int  # of held-out answers
    divergence: float  # KL(before || after) of their distributions, nats a token
    other_choices: float  # share of them where the likeliest token is another than before, 0 to 1
    quality: list[Quality] | None  # the original and the copy on held-out questions; None: not asked
    vision_error: float | None
    layers: list[dict[str, Any]]  # layer, error: of its output; linears: of each linear layer's

    def values(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return asdict(self)


def print_report(report: Report, *, out: TextIO) -> None:
    """Print the report as tables."""
    groups = f", groups of {report.group_size}" if report.group_size else ""
    print(
        f"{report.model} -> {report.format}{groups}: {report.out} ({report.samples} samples, "
        f"{report.tokens:,} tokens, {report.seconds:.0f} s, {report.peak_bytes / 2**30:.2f} GiB at most)\n",
        file=out,
    )
    rows = [
        ("weights, MB", f"{report.bytes_before / 1e6:,.1f}", f"{report.bytes_after / 1e6:,.1f}"),
        ("perplexity", f"{report.perplexity_before:.4f}", f"{report.perplexity_after:.4f}"),
    ]
    rows.append(("divergence, nats a token", "", f"{report.divergence:.2e}"))
    rows.append((f"other choices, of {report.judged_tokens:,} tokens", "", f"{report.other_choices:.2%}"))
    print_table(("", "before", "after"), rows, out=out)
    if report.vision_error is not None:
        print(f"\nrows of pictures move by {report.vision_error:.2%} of their size", file=out)
    worst = sorted(report.layers, key=lambda note: -max(note["linears"].values()))[:MOST_LOSING]
    print("\nlayers that lost most: error of outputs, as a share of them", file=out)
    heads = ("layer", "qkv", "o", "gate_up", "down", "stream behind it")
    print_table(
        heads,
        [
            (
                str(note["layer"]),
                *(f"{note['linears'][name]:.2%}" for name in heads[1:5]),
                f"{note['error']:.2%}",
            )
            for note in worst
        ],
        out=out,
    )
    if report.quality is not None:
        print(file=out)
        print_quality(report.quality, out=out)


def print_json(values: Any, *, out: TextIO) -> None:
    """Print every figure."""
    print(json.dumps(values, indent=2), file=out)
