"""The pipeline and the server are two doors to one house: the same question has the same answer."""

import base64
import io

import httpx
import pytest
from live_server import LiveServer
from PIL import Image

from deployer import GenerationConfig, Response, pipeline


@pytest.fixture
def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((90, 40)).convert("RGB")


def test_the_same_question_has_the_same_answer(
    server: LiveServer, tiny_words: tuple[str, ...], picture: Image.Image
) -> None:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What is it?"}]
    body = {
        "messages": [{"role": "user", "content": content}], "temperature": 0.9, "seed": 3, "max_tokens": 16,
        "repetition_penalty": 1.2, "top_k": 30, "n": 2, "stop": ["zz"], "bad_words": ["the"],
    }  # fmt: skip
    asked = GenerationConfig(
        temperature=0.9, random_seed=3, max_new_tokens=16, repetition_penalty=1.2, top_k=30, n=2,
        stop_words=["zz"], bad_words=["the"],
    )  # fmt: skip
    served = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60).json()
    overrides = [word for word in tiny_words if not word.startswith(("+model", "model.path"))]
    folder = next(word.partition("=")[2] for word in tiny_words if word.startswith("model.path="))
    with pipeline(folder, *overrides) as pipe:
        found = pipe(("What is it?", picture), asked)
    assert isinstance(found, list)
    for response, choice in zip(found, served["choices"], strict=True):
        assert isinstance(response, Response)
        assert response.text == choice["message"]["content"]
        assert response.finish_reason == choice["finish_reason"]
    assert served["usage"]["prompt_tokens"] == found[0].input_token_len
    assert served["usage"]["prompt_tokens_details"]["image_tokens"] == found[0].image_token_len
    assert served["usage"]["completion_tokens"] == sum(one.generate_token_len for one in found)
