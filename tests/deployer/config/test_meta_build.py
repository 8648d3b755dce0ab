"""Every released size on torch's meta device: a checkpoint's names and shapes, a network, a plan's bytes."""

from math import prod
from pathlib import Path

import pytest
import torch
from deployed import deployed
from hub_tensors import hub_tensors
from plan_cases import hardware, options

from deployer.config.hyper_parameters import without_factor_lists
from deployer.config.schema import DeployConfig
from deployer.plan.changes import Question
from deployer.plan.weight_bytes import weight_parts
from engines.families import read_spec, rules_for
from engines.parallel import TpGroup
from engines.pytorch.ops_torch import TorchOps
from engines.spec import ModelSpec
from engines.vision.vlm import Vlm
from engines.weights.match import match
from engines.weights.parameters import parameters
from engines.weights.split import local_shape, padded_vocab

CONF = Path(__file__).parents[3] / "conf" / "model"
MODELS = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem[0] != "_" and path.stem != "local")


def spec_of(config: DeployConfig) -> ModelSpec:
    assert config.model.hyper_parameters is not None
    return read_spec(without_factor_lists(config.model.hyper_parameters), origin=config.model.name)


@pytest.mark.parametrize("model", MODELS)
def test_checkpoint_network_and_plan_are_of_the_same_tensors(model: str) -> None:
    config = deployed(model)
    spec = spec_of(config)
    hub = hub_tensors(spec)
    wanted = parameters(spec)
    claims = match(hub, rules_for(spec), wanted, origin=model)
    assert {claim.source for claim in claims} == hub.keys()

    tensors = {p.name: torch.empty(local_shape(p, tp=1), dtype=torch.bfloat16, device="meta") for p in wanted}
    network = Vlm(spec, tensors, ops=TorchOps(), group=TpGroup(rank=0, size=1))
    assert network.spec is spec

    question = Question(config=config, spec=spec, hardware=hardware("h200"), options=options())
    planned = sum(part.num_bytes for part in weight_parts(question.case()))
    vocab = spec.decoder.vocab
    padding = (padded_vocab(vocab, tp=1) - vocab) * spec.decoder.hidden
    num_padded = sum(p.split in ("vocab", "padded") for p in wanted)
    assert planned == 2 * (sum(map(prod, hub.values())) + num_padded * padding)
