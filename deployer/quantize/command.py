"""`deploy quantize`: quantized copies of a checkpoint in the layouts that others read, and what they cost.

Runs in this process on one device, a layer at a time. Stopped at any point, the same command goes on.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from deployer.config.devices import EngineChoice, choose_engine
from deployer.config.engine_options import engine_options
from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel, check_family, open_model
from deployer.quantize.make_copy import CopyJob, check_job, make_copy
from deployer.quantize.options import (
    KEPT,
    MADE,
    READ,
    QuantizeOptions,
    check_kept,
    check_options,
    check_read,
    made_for,
    method_of,
)
from deployer.quantize.prompts import calibration_prompts
from deployer.quantize.quality import Quality, print_quality, quality_of
from deployer.quantize.questions import question_prompts
from deployer.quantize.report import print_json, print_report
from deployer.quantize.samples import first_few, samples
from deployer.typed_path import typed_path
from engines.quant.method import Method
from engines.weights.decode_copy import CopyFormat

if TYPE_CHECKING:
    from engines.quant.judge_answers import AnswerJudge, JudgedAnswers
    from engines.quant.prompt_steps import CalibrationPrompt


def run(config: DeployConfig, options: QuantizeOptions) -> int:
    """Make what was asked for and print what it cost.

    Raises ConfigError, CheckpointError or UnavailableError.
    """
    check_options(options, config.quantization)
    check_family(config.model)
    model = open_model(config.model, tower=config.vision.name)
    choice = choose_engine(config.engine)
    if options.compare is not None:
        return _compare(config, options, model, choice)
    form = config.quantization.weights
    assert form != "auto" and form != "none", "options were checked"
    job = _job(config, options, model, method_of(options, form), typed_path(options.out))
    check_job(job)
    report = make_copy(job, _calibration(config, options, model), choice)
    if options.questions:
        judge = _judge(config, options, model, choice)
        judged, size = _judged_copy(config, job, judge), _weight_bytes(job.out)
        copy = quality_of(form, judged, num_bytes=size, nearest=None)
        report = replace(report, quality=[_original(model, judge), copy])
    if options.output == "json":
        print_json(report.values(), out=sys.stdout)
    else:
        print_report(report, out=sys.stdout)
    return 0


def _compare(config: DeployConfig, options: QuantizeOptions, model: OpenedModel, choice: EngineChoice) -> int:
    """Make every format that is named and print a row each, the original first."""
    assert options.compare is not None, "asked of a comparison"
    kept = [KEPT[name] for name in options.compare if name in KEPT]
    dtype = _dtype(config, model, choice)
    check_kept(kept, head_dim=model.spec.decoder.head_dim, dtype=dtype)
    check_read(options.compare, dtype=dtype)
    held = None if model.spec.quantization is None else model.spec.quantization.format
    made = {name: made_for(name, held) for name in options.compare}
    jobs = {name: _part(config, options, model, name) for name in made.values() if name is not None}
    prompts = _calibration(config, options, model) if jobs else []
    for job in jobs.values():
        make_copy(job, prompts, choice)
    judge = _judge(config, options, model, choice)
    original = _original(model, judge)
    judged = {
        name: judge.judge(
            model.folder, model.spec, KEPT.get(name, "none"), same_tower=True, read_as=READ.get(name)
        )
        if folder is None
        else _judged_copy(config, jobs[folder], judge, read_as=READ.get(name))
        for name, folder in made.items()
    }
    rows = [original]
    for name, found in judged.items():
        folder = made[name]
        size = original.num_bytes if folder is None else _weight_bytes(jobs[folder].out)
        nearest = judged.get("nearest") if folder not in (None, "nearest") else None
        rows.append(quality_of(name, found, num_bytes=size, nearest=nearest))
    if options.output == "json":
        print_json([row.values() for row in rows], out=sys.stdout)
    else:
        print_quality(rows, out=sys.stdout)
    return 0


def _part(config: DeployConfig, options: QuantizeOptions, model: OpenedModel, name: str) -> CopyJob:
    """Return what makes one copy of a comparison; raises as `check_job` does."""
    form, search = MADE[name]
    method = method_of(replace(options, search=search), form)
    job = _job(config, options, model, method, typed_path(options.out) / name)
    check_job(job)
    return job


def _dtype(config: DeployConfig, model: OpenedModel, choice: EngineChoice) -> str:
    """Return what the engine will compute in, as `engines.devices.compute_dtype` takes it."""
    if config.engine.dtype != "auto":
        return config.engine.dtype
    return "float32" if choice.device == "cpu" else model.spec.dtype


def _job(
    config: DeployConfig, options: QuantizeOptions, model: OpenedModel, method: Method, out: Path
) -> CopyJob:
    from engines.quant.fitted_method import fitted
    from engines.quant.layer_store import LayerStore

    return CopyJob(
        model=model,
        store=LayerStore(model.folder, model.spec),
        name=config.model.name,
        options=options,
        method=fitted(method, model.spec),
        out=out,
    )


def _calibration(
    config: DeployConfig, options: QuantizeOptions, model: OpenedModel
) -> Sequence["CalibrationPrompt"]:
    """Return the samples as prompts; what is too long is left out and told of."""
    found = samples(
        options.samples,
        count=options.num_samples,
        seed=options.seed,
        pictures=model.spec.vision is not None,
        max_pixels=config.vision.max_image_pixels,
    )
    prompts, too_long = calibration_prompts(config, model, found, max_tokens=options.max_tokens)
    if too_long:
        limit = f"more tokens than quantize.max_tokens={options.max_tokens} or than a session"
        have = f"{len(too_long)} of {len(found)} samples have {limit}"
        print(f"{have}: left out: {first_few(too_long)}", file=sys.stderr)
    if len(prompts) < 2:
        raise ConfigError(
            [
                f"quantize.samples={options.samples}: 1 sample is left; must be 2, one calibrates and one "
                "judges"
            ]
        )
    return prompts


def _judge(
    config: DeployConfig, options: QuantizeOptions, model: OpenedModel, choice: EngineChoice
) -> "AnswerJudge":
    from engines.quant.judge_answers import AnswerJudge

    questions = question_prompts(config, model, options.questions, first_picture=options.first_picture)
    return AnswerJudge(model.folder, model.spec, engine_options(config, choice), questions)


def _original(model: OpenedModel, judge: "AnswerJudge") -> Quality:
    return quality_of("original", judge.original(), num_bytes=_weight_bytes(model.folder), nearest=None)


def _judged_copy(
    config: DeployConfig, job: CopyJob, judge: "AnswerJudge", *, read_as: CopyFormat | None = None
) -> "JudgedAnswers":
    copy = open_model(
        replace(config.model, hub="folder", path=str(job.out), repo=None), tower=config.vision.name
    )
    return judge.judge(copy.folder, copy.spec, "none", same_tower=not job.method.vision, read_as=read_as)


def _weight_bytes(folder: Path) -> int:
    from engines.quant.remainder import weight_files

    return sum(path.stat().st_size for path in weight_files(folder))
