"""A real engine behind the gRPC port: the answers of HTTP, and the end that a signal gives."""

import io
import json
import queue
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from live_server import LiveServer, live_server
from PIL import Image

triton = pytest.importorskip("tritonclient.grpc", reason="the test client of the gRPC port")
GREEDY = {"temperature": 0.0, "max_tokens": 12, "ignore_eos": True}


@pytest.fixture(scope="module")
def grpc_server(tiny_words: tuple[str, ...]) -> Iterator[LiveServer]:
    with live_server(*tiny_words, "server.grpc_port=0", "vision.preprocess_workers=1") as running:
        yield running


@pytest.fixture
def client(grpc_server: LiveServer) -> Iterator[Any]:
    (line,) = [line for line in grpc_server.lines if line.startswith("grpc ")]
    found = triton.InferenceServerClient(line.split()[1])
    yield found
    found.close()


def bytes_input(name: str, value: bytes) -> Any:
    tensor = triton.InferInput(name, [1], "BYTES")
    tensor.set_data_from_numpy(np.array([value], dtype=object))
    return tensor


def inputs(colour: str) -> list[Any]:
    data = io.BytesIO()
    Image.new("RGB", (80, 40), colour).save(data, "PNG")
    return [bytes_input("text_input", b"what is it"), bytes_input("image", data.getvalue())]


def streamed(client: Any, **request: Any) -> list[Any]:
    replies: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: replies.put(error or result))
    client.async_stream_infer("tiny", **request)
    found = []
    while not found or not found[-1].get_response().parameters["triton_final_response"].bool_param:
        found.append(replies.get(timeout=30))
        assert not isinstance(found[-1], Exception), found[-1]
    client.stop_stream()
    return found


def test_streamed_and_whole_answers_are_the_same_and_pictures_count(client: Any) -> None:
    texts = []
    for colour in ("red", "blue"):
        whole = client.infer("tiny", inputs(colour), parameters=GREEDY)
        pieces = streamed(client, inputs=inputs(colour), parameters=GREEDY)
        text = b"".join(b"".join(piece.as_numpy("text_output")) for piece in pieces[:-1])
        assert text == whole.as_numpy("text_output")[0] and whole.as_numpy("finish_reason")[0] == b"length"
        texts.append(text)
    assert texts[0] != texts[1]


def test_a_damaged_picture_is_refused_and_the_server_goes_on(client: Any, grpc_server: LiveServer) -> None:
    damaged = [bytes_input("text_input", b"a"), bytes_input("image", b"\x89PNG\r\n\x1a\nno more")]
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*image 1"):
        client.infer("tiny", damaged)
    assert client.is_model_ready("tiny")
    assert grpc_server.figure("deployer_preprocess_workers") == 1


@pytest.mark.parametrize("url", ["http://8.8.8.8:99999/", "http://8.8.8.8:-1/", "http://xn--a/"])
def test_a_picture_url_that_nothing_can_connect_to_is_refused(client: Any, url: str) -> None:
    parts = [{"type": "image_url", "image_url": {"url": url}}]
    messages = json.dumps([{"role": "user", "content": parts}]).encode()
    with pytest.raises(Exception, match=r"INVALID_ARGUMENT.*image 1: .* is no URL"):
        client.infer("tiny", [bytes_input("messages", messages)])


def test_a_signal_lets_a_stream_end(tiny_words: tuple[str, ...]) -> None:
    with live_server(*tiny_words, "server.grpc_port=0") as server:
        (line,) = [line for line in server.lines if line.startswith("grpc ")]
        client = triton.InferenceServerClient(line.split()[1])
        replies: queue.Queue[Any] = queue.Queue()
        client.start_stream(lambda result, error: replies.put(error or result))
        parameters = {**GREEDY, "max_tokens": 200}
        client.async_stream_infer("tiny", [bytes_input("text_input", b"go on")], parameters=parameters)
        replies.get(timeout=30)
        server.process.terminate()
        last = replies.get(timeout=30)
        while not last.get_response().parameters["triton_final_response"].bool_param:
            last = replies.get(timeout=30)
            assert not isinstance(last, Exception), last
        assert b'"completion_tokens": 200' in last.as_numpy("usage")[0]
        client.close()
        assert server.process.wait(20) == 0
