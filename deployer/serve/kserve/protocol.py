"""Messages and methods of `inference.GRPCInferenceService`, as far as they are served here.

Field numbers: the Open Inference Protocol v2, and Triton's model_config for `ModelConfigResponse`. The
classes are made from this table when a gRPC port is opened, in a descriptor pool of their own: a client
library in the same process may register the whole protocol in the default one. Nested messages stand flat
here, which is the same on the wire.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "inference.GRPCInferenceService"
CHOICE = "parameter_choice"  # the oneof of an InferParameter

# number, type, name; `*type` repeated, `{type}` a map from strings, `?type` a member of the oneof.
_MESSAGES: Mapping[str, tuple[str, ...]] = {
    "ServerLiveRequest": (),
    "ServerLiveResponse": ("1 bool live",),
    "ServerReadyRequest": (),
    "ServerReadyResponse": ("1 bool ready",),
    "ModelReadyRequest": ("1 string name", "2 string version"),
    "ModelReadyResponse": ("1 bool ready",),
    "ServerMetadataRequest": (),
    "ServerMetadataResponse": ("1 string name", "2 string version", "3 *string extensions"),
    "ModelMetadataRequest": ("1 string name", "2 string version"),
    "TensorMetadata": ("1 string name", "2 string datatype", "3 *int64 shape"),
    "ModelMetadataResponse": (
        "1 string name",
        "2 *string versions",
        "3 string platform",
        "4 *TensorMetadata inputs",
        "5 *TensorMetadata outputs",
    ),
    "ModelConfigRequest": ("1 string name", "2 string version"),
    "ModelInput": ("1 string name", "2 int32 data_type", "4 *int64 dims", "8 bool optional"),
    "ModelOutput": ("1 string name", "2 int32 data_type", "3 *int64 dims"),
    "ModelTransactionPolicy": ("1 bool decoupled",),
    "ModelConfig": (
        "1 string name",
        "2 string platform",
        "4 int32 max_batch_size",
        "5 *ModelInput input",
        "6 *ModelOutput output",
        "17 string backend",
        "19 ModelTransactionPolicy model_transaction_policy",
    ),
    "ModelConfigResponse": ("1 ModelConfig config",),
    "InferParameter": (
        "1 ?bool bool_param",
        "2 ?int64 int64_param",
        "3 ?string string_param",
        "4 ?double double_param",
        "5 ?uint64 uint64_param",
    ),
    "InferTensorContents": (
        "1 *bool bool_contents",
        "2 *int32 int_contents",
        "3 *int64 int64_contents",
        "4 *uint32 uint_contents",
        "5 *uint64 uint64_contents",
        "6 *float fp32_contents",
        "7 *double fp64_contents",
        "8 *bytes bytes_contents",
    ),
    "InferInputTensor": (
        "1 string name",
        "2 string datatype",
        "3 *int64 shape",
        "4 {InferParameter} parameters",
        "5 InferTensorContents contents",
    ),
    "InferRequestedOutputTensor": ("1 string name", "2 {InferParameter} parameters"),
    "InferOutputTensor": (
        "1 string name",
        "2 string datatype",
        "3 *int64 shape",
        "4 {InferParameter} parameters",
        "5 InferTensorContents contents",
    ),
    "ModelInferRequest": (
        "1 string model_name",
        "2 string model_version",
        "3 string id",
        "4 {InferParameter} parameters",
        "5 *InferInputTensor inputs",
        "6 *InferRequestedOutputTensor outputs",
        "7 *bytes raw_input_contents",
    ),
    "ModelInferResponse": (
        "1 string model_name",
        "2 string model_version",
        "3 string id",
        "4 {InferParameter} parameters",
        "5 *InferOutputTensor outputs",
        "6 *bytes raw_output_contents",
    ),
    "ModelStreamInferResponse": ("1 string error_message", "2 ModelInferResponse infer_response"),
}


@dataclass(frozen=True, slots=True)
class Protocol:
    """The message classes, by name."""

    classes: Mapping[str, type[Any]]

    def __getitem__(self, name: str) -> type[Any]:
        return self.classes[name]


def protocol() -> Protocol:
    """Make the message classes."""
    file = descriptor_pb2.FileDescriptorProto(
        name="deployer/open_inference.proto", package="inference", syntax="proto3"
    )
    for name, rows in _MESSAGES.items():
        _add_message(file.message_type.add(name=name), rows)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"inference.{name}") for name in _MESSAGES}
    return Protocol({name: message_factory.GetMessageClass(one) for name, one in found.items()})


def _add_message(message: Any, rows: tuple[str, ...]) -> None:
    for row in rows:
        number, kind, name = row.split()
        bare = kind.strip("*?{}")
        field = message.field.add(name=name, number=int(number))
        repeated = kind.startswith(("*", "{"))
        field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        if kind.startswith("{"):
            bare = f"{message.name}.{_add_map_entry(message, name, bare)}"
        if kind.startswith("?"):
            if not message.oneof_decl:
                message.oneof_decl.add(name=CHOICE)
            field.oneof_index = 0
        _set_type(field, bare)


def _add_map_entry(message: Any, field_name: str, kind: str) -> str:
    """Add the message that stands for a pair of a map; returns its name."""
    entry = message.nested_type.add(name=f"{field_name.capitalize()}Entry")
    entry.options.map_entry = True
    _add_message(entry, ("1 string key", f"2 {kind} value"))
    return str(entry.name)


def _set_type(field: Any, kind: str) -> None:
    scalar = f"TYPE_{kind.upper()}"
    if scalar in descriptor_pb2.FieldDescriptorProto.Type.keys():  # noqa: SIM118 - an enum wrapper, no mapping
        field.type = descriptor_pb2.FieldDescriptorProto.Type.Value(scalar)
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".inference.{kind}"
