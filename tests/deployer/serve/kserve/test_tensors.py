"""Tensors of the protocol, from bytes that a client may get wrong."""

import pytest

pytest.importorskip("google.protobuf", reason="the gRPC port needs protobuf (the extra `grpc`)")
from deployer.serve.kserve.protocol import protocol
from deployer.serve.kserve.tensors import TensorError, add_output, read_tensors

CLASSES = protocol()


def request(datatype: str, shape: list[int], raw: bytes) -> object:
    asked = CLASSES["ModelInferRequest"](raw_input_contents=[raw])
    asked.inputs.add(name="x", datatype=datatype, shape=shape)
    return asked


def test_raw_and_typed_contents_read_the_same() -> None:
    typed = CLASSES["ModelInferRequest"]()
    typed.inputs.add(name="x", datatype="INT64", shape=[1, 2]).contents.int64_contents.extend([3, -4])
    raw = request("INT64", [2], (3).to_bytes(8, "little") + (-4).to_bytes(8, "little", signed=True))
    assert read_tensors(typed) == read_tensors(raw) == {"x": [3, -4]}


def test_outputs_read_back_as_they_were_written() -> None:
    response = CLASSES["ModelInferResponse"]()
    add_output(response, "x", ["é".encode(), b""])
    assert read_tensors(request("BYTES", [2], response.raw_output_contents[0])) == {"x": ["é".encode(), b""]}


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "words"),
    [
        ("BYTES", [1], b"\x05\0\0\0ab", "an element of 5 bytes, 2 are left"),
        ("BYTES", [1], b"\x05\0", "2 bytes are left where a length has 4"),
        ("BYTES", [2], b"\x01\0\0\0a", r"shape \[2\] is 2 values, not 1"),
        ("FP32", [1], b"abc", "no whole number of FP32"),
        ("BF16", [1], b"ab", "datatype `BF16`: must be one of `BOOL`"),
    ],
)
def test_a_tensor_that_is_not_what_it_says_is_named(
    datatype: str, shape: list[int], raw: bytes, words: str
) -> None:
    with pytest.raises(TensorError, match=words):
        read_tensors(request(datatype, shape, raw))


def test_inputs_and_raw_contents_are_as_many() -> None:
    asked = request("BYTES", [0], b"")
    asked.raw_input_contents.append(b"")  # type: ignore[attr-defined]  # made at run time
    with pytest.raises(TensorError, match="1 inputs, 2 in `raw_input_contents`"):
        read_tensors(asked)
