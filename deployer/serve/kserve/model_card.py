"""What the protocol says of a model: its tensors, in KServe's words and in Triton's."""

from collections.abc import Mapping
from typing import Any

from deployer.serve.kserve.chat_body import IMAGE, MESSAGES, SAMPLING, TEXT
from deployer.serve.kserve.protocol import Protocol

PLATFORM = "deployer"
# name: the type here, and its number in Triton's enum DataType
_INPUTS = {TEXT: ("BYTES", 13), MESSAGES: ("BYTES", 13), IMAGE: ("BYTES", 13), SAMPLING: ("BYTES", 13)}
_OUTPUTS = {
    "text_output": ("BYTES", 13),
    "finish_reason": ("BYTES", 13),
    "index": ("INT32", 8),
    "usage": ("BYTES", 13),
    "response": ("BYTES", 13),
}


def metadata_of(card: Mapping[str, Any], protocol: Protocol) -> Any:
    """Return the ModelMetadataResponse for a card of /v1/models."""
    found = protocol["ModelMetadataResponse"](name=card["id"], versions=["1"], platform=PLATFORM)
    for rows, tensors in ((_INPUTS, found.inputs), (_OUTPUTS, found.outputs)):
        for name, (kind, _) in rows.items():
            tensors.add(name=name, datatype=kind, shape=[-1])
    return found


def config_of(card: Mapping[str, Any], protocol: Protocol) -> Any:
    """Return the ModelConfigResponse; requests are batched by the scheduler, not by their first axis."""
    found = protocol["ModelConfigResponse"]()
    config = found.config
    config.name, config.platform, config.backend, config.max_batch_size = card["id"], PLATFORM, PLATFORM, 0
    for name, (_, number) in _INPUTS.items():
        config.input.add(name=name, data_type=number, dims=[-1], optional=True)
    for name, (_, number) in _OUTPUTS.items():
        config.output.add(name=name, data_type=number, dims=[-1])
    config.model_transaction_policy.decoupled = True
    return found
