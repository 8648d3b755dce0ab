"""`deploy quantize`: a quantized copy of a checkpoint in the layout that others read, and what it cost.

Runs in this process on one device, a layer at a time. Stopped at any point, the same command goes on.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deployer.config.devices import choose_engine
from deployer.config.schema import DeployConfig
from deployer.errors import UnavailableError
from deployer.generation.open_model import OpenedModel, check_family, open_model
from deployer.offline.progress import progress_bar
from deployer.quantize.options import QuantizeOptions, check_options, method_of
from deployer.quantize.output_folder import (
    check_output,
    copy_companions,
    quantized_config,
    staging_path,
    take_name,
)
from deployer.quantize.prompts import calibration_prompts
from deployer.quantize.report import Report, print_json, print_report
from deployer.quantize.samples import samples
from engines.quant.method import Method

REPORT = "quantization_report.json"
TABLE_QUESTIONS = 96  # tokens of an answer at most, as conf/evaluate has it


def run(config: DeployConfig, options: QuantizeOptions) -> int:
    """Make the copy and print what it cost. Raises ConfigError, CheckpointError or UnavailableError."""
    check_options(options, config.quantization)
    check_family(config.model)
    started = time.perf_counter()
    model = open_model(config.model, tower=config.vision.name)
    report = _quantize(config, options, model, started)
    print_json(report, out=sys.stdout) if options.output == "json" else print_report(report, out=sys.stdout)
    return 0


def _quantize(config: DeployConfig, options: QuantizeOptions, model: OpenedModel, started: float) -> Report:
    import torch
    from safetensors import SafetensorError

    from engines.backends import DTYPES
    from engines.quant.layer_store import LayerStore
    from engines.quant.packing import quantization_config
    from engines.quant.quantize_checkpoint import fitted, quantize_checkpoint
    from engines.quant.remainder import weight_files
    from engines.quant.staging import Staging

    out = Path(options.out).expanduser()
    size = sum(path.stat().st_size for path in weight_files(model.folder))
    check_output(out, source=model.folder, overwrite=options.overwrite, needed_bytes=size)
    method = fitted(method_of(options, config.quantization), model.spec)
    store = LayerStore(model.folder, model.spec)
    conversations = samples(
        options.samples,
        count=options.num_samples,
        seed=options.seed,
        pictures=model.spec.vision is not None,
    )
    prompts = calibration_prompts(config, model, conversations, max_tokens=options.max_tokens)
    if len(prompts) < len(conversations):
        left_out = f"{len(conversations) - len(prompts)} of {len(conversations)} samples"
        print(
            f"{left_out} have more than quantize.max_tokens={options.max_tokens}: left out", file=sys.stderr
        )
    held_out = min(options.held_out, len(prompts) // 2)
    device = torch.device(choose_engine(config.engine).device)
    dtype = torch.float32 if device.type == "cpu" else DTYPES[model.spec.dtype]
    staging = Staging(staging_path(out), job=_job(options, method, model.folder))
    with progress_bar(model.spec.decoder.num_layers, shown=True, what="layers") as advance:
        try:
            outcome = quantize_checkpoint(
                store,
                prompts,
                method,
                staging,
                held_out=held_out,
                device=device,
                dtype=dtype,
                on_layer=_advancing(advance),
            )
            config_text = quantized_config(
                json.loads((model.folder / "config.json").read_text(encoding="utf-8")),
                quantization_config(method, outcome.kept),
            )
            copy_companions(model.folder, staging.folder, but=("config.json", REPORT))
            report = Report(
                model=config.model.name,
                format=method.format,
                group_size=method.group_size,
                out=str(out),
                samples=len(prompts),
                tokens=sum(len(prompt.token_ids) for prompt in prompts),
                seconds=time.perf_counter() - started,
                bytes_before=outcome.bytes_before,
                bytes_after=outcome.bytes_after,
                perplexity_before=outcome.judged.perplexity_before,
                perplexity_after=outcome.judged.perplexity_after,
                judged_tokens=len(outcome.judged.differs_S),
                divergence=float(outcome.judged.divergences_S.mean()),
                other_choices=float(outcome.judged.differs_S.float().mean()),
                accuracy_before=None,
                accuracy_after=None,
                questions=options.questions,
                vision_error=outcome.vision_error,
                layers=outcome.layers,
            )
            staging.finish(
                outcome.places, {"config.json": config_text, REPORT: json.dumps(report.values(), indent=1)}
            )
            take_name(staging.folder, out)
        except (OSError, SafetensorError) as error:
            raise UnavailableError(
                f"cannot write {staging.folder} ({error}): nothing was put at {out}; free space and give the "
                "same command again, which goes on where this one stopped"
            ) from error
    return report if options.questions == 0 else _with_accuracy(report, config, options, out)


def _job(options: QuantizeOptions, method: Method, folder: Path) -> dict[str, object]:
    """Return what decides the result."""
    return {
        "checkpoint": str(folder.resolve()),
        **{f"quantize.{name}": getattr(method, name) for name in method.__dataclass_fields__},
        **{
            f"quantize.{name}": getattr(options, name)
            for name in ("samples", "num_samples", "held_out", "max_tokens", "seed")
        },
    }


def _advancing(advance: Callable[[], None]) -> Callable[[int], None]:
    """Return what moves a bar to a layer, from wherever it is."""
    done = 0

    def to(layer: int) -> None:
        nonlocal done
        while done < layer:
            advance()
            done += 1

    return to


def _with_accuracy(report: Report, config: DeployConfig, options: QuantizeOptions, out: Path) -> Report:
    """Ask the held-out questions of both checkpoints."""
    from deployer.pocket_vl.evaluate import ask_deployment
    from deployer.pocket_vl.evaluate_options import EvaluateOptions
    from deployer.pocket_vl.fonts import FontBook

    asked = EvaluateOptions(
        questions=options.questions,
        first_picture=0,
        concurrency=16,
        max_new_tokens=TABLE_QUESTIONS,
        fonts=None,
        wrong=0,
        output="table",
    )
    auto = replace(config, quantization=replace(config.quantization, weights="auto"))
    copy = replace(auto, model=replace(auto.model, hub="folder", path=str(out), repo=None))
    shares = []
    for deployment in (auto, copy):
        answers, _ = asyncio.run(ask_deployment(deployment, asked, FontBook.system()))
        shares.append(sum(answer.right for answer in answers) / len(answers))
    return replace(report, accuracy_before=shares[0], accuracy_after=shares[1])
