"""Our messages held to those of tritonclient, which were made from the whole protocol."""

from typing import Any

import pytest

pytest.importorskip("google.protobuf", reason="the gRPC port needs protobuf (the extra `grpc`)")
pb2 = pytest.importorskip("tritonclient.grpc.service_pb2", reason="the protocol as another wrote it")
from deployer.serve.kserve.protocol import protocol  # noqa: E402 - it needs protobuf

OURS = protocol().classes


def theirs() -> dict[str, Any]:
    """Return the descriptors of all messages, nested ones too, by their last name."""
    found: dict[str, Any] = {}
    config = pytest.importorskip("tritonclient.grpc.model_config_pb2")
    waiting = [
        *pb2.DESCRIPTOR.message_types_by_name.values(),
        *config.DESCRIPTOR.message_types_by_name.values(),
    ]
    while waiting:
        one = waiting.pop()
        found.setdefault(one.name, one)
        waiting.extend(one.nested_types)
    return found


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_field_has_the_number_and_the_kind_of_the_protocol(name: str) -> None:
    there = theirs()[name].fields_by_name
    for field in OURS[name].DESCRIPTOR.fields:
        other = there[field.name]
        wire = {14: 5}  # an enum travels as an int32
        assert (field.number, field.type) == (other.number, wire.get(other.type, other.type)), field.name
        assert field.is_repeated == other.is_repeated, field.name


def test_a_request_reads_the_same_on_both_sides() -> None:
    asked = OURS["ModelInferRequest"](model_name="m", id="7", raw_input_contents=[b"ab"])
    asked.parameters["seed"].int64_param = 0
    asked.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    read = pb2.ModelInferRequest.FromString(asked.SerializeToString())
    assert read.parameters["seed"].WhichOneof("parameter_choice") == "int64_param"
    assert (read.model_name, read.inputs[0].shape[0], read.raw_input_contents[0]) == ("m", 1, b"ab")
