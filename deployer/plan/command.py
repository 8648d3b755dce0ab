"""`deploy plan`: what a deployment needs and does on a device, without that device."""

import sys
from collections.abc import Mapping
from typing import Any

from deployer.config.folder import local_folder
from deployer.config.hyper_parameters import with_tower, without_factor_lists
from deployer.config.schema import DeployConfig
from deployer.errors import EXIT_DOES_NOT_FIT, EXIT_OK, ConfigError
from deployer.generation.open_model import open_model
from deployer.generation.weight_format import check_weight_format
from deployer.plan.cautions import cautions
from deployer.plan.changes import Question, changed, fits, largest_changes, nearest_fits, runs_today
from deployer.plan.figures import figures_of
from deployer.plan.hardware import Hardware, check_hardware
from deployer.plan.options import PlanOptions, check_options
from deployer.plan.plan import Plan
from deployer.plan.report import print_json, print_tables
from deployer.plan.start_faults import device_faults, start_faults
from engines.families import read_spec
from engines.spec import ModelSpec


def run(config: DeployConfig, options: PlanOptions, hardware: Hardware) -> int:
    """Print the plan; exit code 4 says that it does not fit. Raises as `make_plan`."""
    plan = make_plan(config, options, hardware)
    if options.output == "json":
        print_json(plan, sys.stdout)
    else:
        print_tables(plan, sys.stdout)
    return EXIT_OK if plan.fits else EXIT_DOES_NOT_FIT


def make_plan(config: DeployConfig, options: PlanOptions, hardware: Hardware) -> Plan:
    """Compute the plan of a deployment. Raises ConfigError or CheckpointError for what cannot be planned.

    A checkpoint that is quantized is planned in its own format, as it starts in no other; of one that is not,
    the copy is planned that `deploy quantize` would make.
    """
    check_options(options)
    check_hardware(hardware)
    hyper_parameters = config.model.hyper_parameters
    if hyper_parameters is None:
        raise ConfigError(
            [
                f"model.hyper_parameters=null (model `{config.model.name}`): a plan is made from the keys of "
                "config.json; use a model option that has them, or model=local model.path=<folder>"
            ]
        )
    spec = _spec(config, hyper_parameters)
    if spec.quantization is not None and config.engine.load_format != "random":
        origin = local_folder(config.model) or f"model `{config.model.name}`"
        check_weight_format(config.quantization, spec, origin=str(origin))
    asked = {
        key: form
        for key, form in {
            "quantization.weights": options.weights,
            "quantization.kv": options.kv,
        }.items()
        if form
    }
    question = Question(config=changed(config, asked), spec=spec, hardware=hardware, options=options)
    case = question.case()
    kv_key = "plan.kv" if options.kv else "quantization.kv"
    faults = [*device_faults(config, hardware), *start_faults(case, kv_key=kv_key)]
    if faults:
        raise ConfigError(faults)
    figures = figures_of(case, options)
    does_fit = fits(figures)
    return Plan(
        model=config.model.name,
        case=case,
        figures=figures,
        fits=does_fit,
        runs_today=runs_today(question.config),
        warnings=cautions(case, figures),
        changes=largest_changes(question, figures) if does_fit else [],
        ways_to_fit=[] if does_fit else nearest_fits(question),
    )


def _spec(config: DeployConfig, hyper_parameters: Mapping[str, Any]) -> ModelSpec:
    """Return what the folder of a checkpoint on this machine says, else what the model option says."""
    folder = local_folder(config.model)
    if folder is not None and (folder / "config.json").is_file():
        return open_model(config.model, weights=False, tower=config.vision.name).spec
    return read_spec(
        with_tower(without_factor_lists(hyper_parameters), config.vision.name),
        origin=f"hyper_parameters of model `{config.model.name}`",
        folder=folder,
    )
