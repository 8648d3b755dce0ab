"""The gRPC port as tritonclient sees it, around the fake engine."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from fake_engine import FakeEngine, Script
from PIL import Image

grpc_client = pytest.importorskip("tritonclient.grpc", reason="the test client of the gRPC port")
Refused = pytest.importorskip("tritonclient.utils").InferenceServerException
TEXT = "It is a red circle."


def bytes_input(name: str, *values: bytes | str) -> Any:
    found = grpc_client.InferInput(name, [len(values)], "BYTES")
    raw = [value.encode() if isinstance(value, str) else value for value in values]
    return found.set_data_from_numpy(np.array(raw, dtype=object))


def picture(colour: str = "red") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (12, 8), colour).save(file, "PNG")
    return file.getvalue()


def strings(result: Any, name: str) -> list[str]:
    return [value.decode() for value in result.as_numpy(name)]


async def streamed(client: Any, *requests: dict[str, Any]) -> list[tuple[Any, Any]]:
    async def ask() -> AsyncIterator[dict[str, Any]]:
        for request in requests:
            yield request

    return [pair async for pair in client.stream_infer(ask())]


async def test_a_server_says_that_it_lives_and_what_it_serves(triton: Callable[..., Any]) -> None:
    client = await triton()
    assert await client.is_server_live() and await client.is_server_ready()
    assert (await client.get_server_metadata()).name == "deployer"
    assert await client.is_model_ready("tiny") and not await client.is_model_ready("another")
    metadata = await client.get_model_metadata("tiny")
    assert [one.name for one in metadata.inputs] == ["text_input", "messages", "image", "sampling_parameters"]
    config = (await client.get_model_config("tiny")).config
    assert config.model_transaction_policy.decoupled and config.output[0].name == "text_output"


async def test_a_server_whose_engine_is_away_is_not_ready(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    client = await triton()
    engine.state = "restarting"
    assert await client.is_server_live() and not await client.is_server_ready()
    assert not await client.is_model_ready("tiny")
    with pytest.raises(Refused) as caught:
        await client.infer("tiny", [bytes_input("text_input", "hello")])
    assert "UNAVAILABLE" in str(caught.value.status())


async def test_text_and_a_picture_are_answered_in_one_piece(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    client = await triton()
    inputs = [bytes_input("text_input", "what is it"), bytes_input("image", picture())]
    result = await client.infer("tiny", inputs, request_id="mine", parameters={"max_tokens": 64})
    assert strings(result, "text_output") == [TEXT]
    assert strings(result, "finish_reason") == ["stop"]
    assert result.get_response().id == "mine"
    usage = json.loads(result.as_numpy("usage")[0])
    assert usage["completion_tokens"] > 0 and len(engine.submits[0].images) == 1
    assert engine.submits[0].sampling.max_new_tokens == 64


async def test_tokens_are_streamed_and_the_last_response_has_the_cost(triton: Callable[..., Any]) -> None:
    client = await triton()
    found = await streamed(
        client, {"model_name": "tiny", "inputs": [bytes_input("text_input", "hi")], "request_id": "a"}
    )
    assert all(error is None for _, error in found)
    texts = [text for result, _ in found[:-1] for text in strings(result, "text_output")]
    assert "".join(texts) == TEXT and len(texts) > 4
    finals = [result.get_response().parameters["triton_final_response"].bool_param for result, _ in found]
    assert finals == [False] * (len(found) - 1) + [True]
    assert json.loads(found[-1][0].as_numpy("usage")[0])["completion_tokens"] > 0


async def test_requests_of_one_stream_are_answered_at_once_and_fail_alone(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    client = await triton()
    good = {"model_name": "tiny", "inputs": [bytes_input("text_input", "hi")], "request_id": "good"}
    bad = {"model_name": "none", "inputs": [bytes_input("text_input", "hi")], "request_id": "bad"}
    found = await streamed(client, good, bad, {**good, "request_id": "also"})
    faults = [str(error) for _, error in found if error is not None]
    assert len(faults) == 1 and "model `none` is not served here" in faults[0]
    ids = {result.get_response().id for result, _ in found if result is not None}
    assert {"good", "also"} <= ids and len(engine.submits) == 2


async def test_messages_sampling_and_choices_come_as_tensors_too(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    client = await triton()
    messages = [{"role": "system", "content": "short"}, {"role": "user", "content": "two"}]
    temperature = grpc_client.InferInput("temperature", [1], "FP32")
    temperature.set_data_from_numpy(np.array([0.5], np.float32))
    inputs = [
        bytes_input("messages", json.dumps(messages)),
        bytes_input("image", picture("red"), picture("blue")),
        bytes_input("sampling_parameters", json.dumps({"n": 2, "seed": 7, "stop": ["red"]})),
        temperature,
    ]
    result = await client.infer("tiny", inputs, outputs=[grpc_client.InferRequestedOutput("text_output")])
    assert strings(result, "text_output") == ["It is a "] * 2
    assert result.as_numpy("usage") is None, "it was not asked for"
    assert engine.submits[0].sampling.temperature == 0.5 and len(engine.submits[0].images) == 2


@pytest.mark.parametrize(
    ("inputs", "parameters", "words"),
    [
        ({}, {}, "inputs: must hold either `text_input` or `messages`"),
        ({"text_input": [b"a", b"b"]}, {}, "input `text_input`: must hold one element, it holds 2"),
        ({"text_input": [b"\xff"]}, {}, "input `text_input` is not UTF-8"),
        ({"messages": [b"{"]}, {}, "input `messages` is not JSON"),
        ({"text_input": [b"a"]}, {"temperatur": 1}, "known near it: `temperature`"),
        ({"text_input": [b"a"]}, {"temperature": 9.5}, "temperature"),
        ({"text_input": [b"a"], "seed": [b"x"]}, {"seed": 3}, "`seed` is given twice"),
        ({"text_input": [b"a"]}, {"stream": True}, "ModelInfer answers in one piece"),
    ],
)
async def test_what_is_wrong_is_an_invalid_argument_that_names_it(
    triton: Callable[..., Any], inputs: dict[str, list[bytes]], parameters: dict[str, Any], words: str
) -> None:
    client = await triton()
    tensors = [bytes_input(name, *values) for name, values in inputs.items()]
    with pytest.raises(Refused) as caught:
        await client.infer("tiny", tensors, parameters=parameters)
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT" and words in str(caught.value)


async def test_the_keys_and_the_limits_are_those_of_http(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    client = await triton(api_keys=["sesame"], max_requests=1)
    inputs = [bytes_input("text_input", "hi")]
    with pytest.raises(Refused) as caught:
        await client.infer("tiny", inputs)
    assert caught.value.status() == "StatusCode.UNAUTHENTICATED"
    engine.gate = asyncio.Event()
    key = {"authorization": "Bearer sesame"}
    first = asyncio.create_task(client.infer("tiny", inputs, headers=key))
    while not engine.submits:
        await asyncio.sleep(0.005)
    with pytest.raises(Refused, match=r"server\.max_requests") as caught:
        await client.infer("tiny", inputs, headers=key)
    assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    engine.gate.set()
    assert strings(await first, "text_output") == [TEXT]


async def test_a_deadline_or_a_client_that_leaves_ends_the_sequence(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.005)
    client = await triton()
    with pytest.raises(Refused) as caught:
        await client.infer("tiny", [bytes_input("text_input", "hi")], client_timeout=0.3)
    assert "DEADLINE_EXCEEDED" in caught.value.status()

    async def ask() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "tiny", "inputs": [bytes_input("text_input", "hi")]}

    stream = client.stream_infer(ask())
    async for _ in stream:
        stream.cancel()
        break
    async with asyncio.timeout(5):
        while engine.running or len(engine.left_early) < 2:
            await asyncio.sleep(0.01)


async def test_a_request_that_an_operator_ends_is_aborted_and_not_sent_again(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("aborted", "aborted by an operator"), fail_after=2)
    client = await triton()
    with pytest.raises(Refused, match="by an operator") as caught:
        await client.infer("tiny", [bytes_input("text_input", "hi")])
    assert caught.value.status() == "StatusCode.ABORTED"


async def test_a_fault_of_the_engine_is_told_with_the_id_that_the_log_has(
    triton: Callable[..., Any], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(failed=("engine_error", "the engine failed"), fail_after=2)
    client = await triton()
    inputs = [bytes_input("text_input", "hi")]
    with pytest.raises(Refused, match="the engine failed") as caught:
        await client.infer("tiny", inputs)
    assert caught.value.status() == "StatusCode.INTERNAL"

    async def ask() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "tiny", "inputs": inputs, "request_id": "a"}

    found = client.stream_infer(ask(), headers={"x-request-id": "my-id"})
    results = [result async for result, error in found if error is None]
    ids = {result.get_response().parameters["request_id"].string_param for result in results}
    assert ids == {"my-id"}
