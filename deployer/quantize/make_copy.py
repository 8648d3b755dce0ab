"""One quantized copy of a checkpoint: calibrated, grown in its staging folder, and named when it is whole."""

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from deployer.config.devices import EngineChoice
from deployer.errors import UnavailableError
from deployer.generation.open_model import OpenedModel
from deployer.offline.progress import progress_bar
from deployer.quantize.options import QuantizeOptions
from deployer.quantize.output_folder import (
    check_output,
    copy_companions,
    only_one,
    quantized_config,
    staging_path,
    take_name,
)
from deployer.quantize.report import Report
from engines.quant.method import Method

if TYPE_CHECKING:
    from engines.quant.layer_store import LayerStore
    from engines.quant.prompt_steps import CalibrationPrompt
    from engines.quant.quantize_checkpoint import Outcome
    from engines.quant.staging import Staging

TOLD_EVERY_S = 20.0
REPORT = "quantization_report.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class CopyJob:
    """What is made of what, and where."""

    model: OpenedModel
    store: "LayerStore"
    name: str  # of the model, for the report
    options: QuantizeOptions
    method: Method
    out: Path


def check_job(job: CopyJob) -> None:
    """Raise ConfigError or UnavailableError where the copy cannot be put there."""
    from engines.quant.remainder import weight_files

    size = sum(path.stat().st_size for path in weight_files(job.model.folder))
    check_output(job.out, source=job.model.folder, overwrite=job.options.overwrite, needed_bytes=size)


def make_copy(job: CopyJob, prompts: Sequence["CalibrationPrompt"], choice: EngineChoice) -> Report:
    """Make the copy. Raises ConfigError and UnavailableError for its place and the disk."""
    with only_one(job.out):
        check_job(job)  # another process may have put a copy there since
        return _made(job, prompts, choice)


def _made(job: CopyJob, prompts: Sequence["CalibrationPrompt"], choice: EngineChoice) -> Report:
    from safetensors import SafetensorError

    from engines.quant.staging import Staging

    started = time.perf_counter()
    staging = Staging(staging_path(job.out), job=_identity(job))
    try:
        outcome = _quantized(job, prompts, staging, choice)
        report = _report(job, prompts, outcome, seconds=time.perf_counter() - started)
        _finish(job, staging, outcome, report)
    except (OSError, SafetensorError) as error:
        raise UnavailableError(
            f"cannot write {staging.folder} ({error}): nothing was put at {job.out}; free space and give the "
            "same command again, which goes on where this one stopped"
        ) from error
    return report


def _quantized(
    job: CopyJob, prompts: Sequence["CalibrationPrompt"], staging: "Staging", choice: EngineChoice
) -> "Outcome":
    import torch

    from engines.devices import DTYPES
    from engines.quant.quantize_checkpoint import quantize_checkpoint

    spec = job.model.spec
    device = torch.device(choice.device)
    with progress_bar(spec.decoder.num_layers, shown=True, what=f"layers, {job.out.name}") as advance:
        return quantize_checkpoint(
            job.store,
            prompts,
            job.method,
            staging,
            held_out=min(job.options.held_out, len(prompts) // 2),
            device=device,
            dtype=torch.float32 if device.type == "cpu" else DTYPES[spec.dtype],
            on_layer=_advancing(advance, spec.decoder.num_layers),
        )


def _finish(job: CopyJob, staging: "Staging", outcome: "Outcome", report: Report) -> None:
    """Write what lies beside the weights, and let the folder take its name."""
    from engines.quant.packing import quantization_config

    config_text = quantized_config(
        json.loads((job.model.folder / "config.json").read_text(encoding="utf-8")),
        quantization_config(job.method, outcome.kept),
    )
    copy_companions(job.model.folder, staging.folder, but=("config.json", REPORT))
    texts = {"config.json": config_text, REPORT: json.dumps(report.values(), indent=1)}
    staging.finish(outcome.places, texts)
    take_name(staging.folder, job.out)


def _report(
    job: CopyJob, prompts: Sequence["CalibrationPrompt"], outcome: "Outcome", *, seconds: float
) -> Report:
    judged = outcome.judged
    return Report(
        model=job.name,
        format=job.method.format,
        group_size=job.method.group_size,
        out=str(job.out),
        samples=len(prompts),
        tokens=sum(len(prompt.token_ids) for prompt in prompts),
        seconds=seconds,
        peak_bytes=outcome.peak_bytes,
        bytes_before=outcome.bytes_before,
        bytes_after=outcome.bytes_after,
        perplexity_before=judged.perplexity_before,
        perplexity_after=judged.perplexity_after,
        judged_tokens=len(judged.differs_S),
        divergence=float(judged.divergences_S.mean()),
        other_choices=float(judged.differs_S.float().mean()),
        quality=None,
        vision_error=outcome.vision_error,
        layers=outcome.layers,
    )


def _identity(job: CopyJob) -> dict[str, object]:
    """Return what decides the result."""
    decisive = ("samples", "num_samples", "held_out", "max_tokens", "seed")
    return {
        "checkpoint": str(job.model.folder.resolve()),
        **{f"quantize.{name}": getattr(job.method, name) for name in job.method.__dataclass_fields__},
        **{f"quantize.{name}": getattr(job.options, name) for name in decisive},
    }


def _advancing(advance: Callable[[], None], total: int) -> Callable[[int], None]:
    """Return what moves a bar to a layer, wherever it is; without a terminal, a line is printed at times."""
    done, first = 0, total
    started_s = told_s = time.monotonic()

    def to(layer: int) -> None:
        nonlocal done, first, told_s
        first = min(first, layer)  # an earlier run did those before
        while done < layer:
            advance()
            done += 1
        now_s = time.monotonic()
        if first < layer < total and now_s - told_s >= TOLD_EVERY_S and not sys.stderr.isatty():
            left_s = (now_s - started_s) / (layer - first) * (total - layer)
            print(f"layer {layer} of {total}, about {left_s / 60:.0f} min left", file=sys.stderr)
            told_s = now_s

    return to
