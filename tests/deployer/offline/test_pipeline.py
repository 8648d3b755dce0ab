"""The pipeline as a script uses it, on a real engine and a tiny random model."""

import base64
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine
from offline import fake_pipeline, tiny_words
from PIL import Image

from deployer import GenerationConfig, Pipeline, Response, pipeline
from deployer.errors import ConfigError, UsageError
from deployer.prompt.images import open_picture, to_rgb
from engines.errors import EngineError, RequestError

TEXT = "What is in the picture?"


def one(found: Response | list[Response]) -> Response:
    assert isinstance(found, Response)
    return found


def many(found: Response | list[Response]) -> list[Response]:
    assert isinstance(found, list)
    return found


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_picture_in_any_form_is_the_same_prompt(
    pipe: Pipeline, picture: Image.Image, tmp_path: Path
) -> None:
    data = png(picture)
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    url = f"data:image/png;base64,{base64.b64encode(data).decode()}"
    parts = [{"type": "text", "text": TEXT}]
    forms = [
        (TEXT, picture),
        (TEXT, [picture]),
        (TEXT, data),
        (TEXT, path),
        (TEXT, str(path)),
        (TEXT, url),
        [{"role": "user", "content": [*parts, {"type": "image_url", "image_url": {"url": url}}]}],
        [{"role": "user", "content": [*parts, {"type": "image_data", "image_data": {"data": picture}}]}],
    ]
    alone = [one(pipe(form)) for form in forms]
    assert {(found.text, found.input_token_len) for found in alone} == {
        (alone[0].text, alone[0].input_token_len)
    }
    assert alone[0].image_token_len == 12  # two tiles of 4 tokens and a thumbnail
    assert alone[0].generate_token_len == len(alone[0].token_ids) == 12
    assert alone[0].finish_reason == "length"
    # In a batch the order is that of the prompts, whoever is ready first.
    batch = many(pipe([*forms, "Text alone"]))
    assert [found.index for found in batch] == list(range(9))
    assert [found.text for found in batch[:8]] == [found.text for found in alone]
    assert batch[8].text == one(pipe("Text alone")).text


def test_several_pictures_count(pipe: Pipeline, picture: Image.Image) -> None:
    two = one(pipe((TEXT, [picture, picture.rotate(90, expand=True)])))
    assert two.image_token_len == 24
    placed = one(pipe(("<IMAGE_TOKEN> is not <IMAGE_TOKEN>", [picture, picture])))
    assert placed.image_token_len == 24


def test_a_stream_is_the_answer_in_pieces(pipe: Pipeline, picture: Image.Image) -> None:
    prompts = [(TEXT, picture), "Go on"]
    whole = many(pipe(prompts))
    pieces = list(pipe.stream_infer(prompts))
    for index, found in enumerate(whole):
        own = [piece for piece in pieces if piece.index == index]
        assert "".join(piece.text for piece in own) == found.text
        assert [piece.finish_reason for piece in own] == [None] * (len(own) - 1) + ["length"]
        assert own[-1].generate_token_len == 12
        assert len(own) > 2


def test_a_stream_that_is_left_stops_the_engine(pipe: Pipeline) -> None:
    stream = pipe.stream_infer("Go on", GenerationConfig(max_new_tokens=1500, ignore_eos=True))
    first = next(stream)
    assert first.finish_reason is None
    stream.close()
    assert one(pipe("Go on")).generate_token_len == 12


def test_a_session_remembers_text_and_pictures(pipe: Pipeline, picture: Image.Image) -> None:
    first = pipe.chat((TEXT, png(picture)))
    second = pipe.chat("And now?", first)
    assert [role for role, _ in second.history] == ["user", "assistant", "user", "assistant"]
    assert second.history[1] == ("assistant", first.response.text)
    assert second.response.image_token_len == first.response.image_token_len == 12
    assert second.response.input_token_len > first.response.input_token_len + 12
    # The same as the whole conversation in one call, and the first session is what it was.
    other = pipe.chat("Else?", first)
    assert len(first.messages) == 2
    assert other.history[:2] == second.history[:2]
    again = one(pipe(list(second.messages[:3])))
    assert again.text == second.response.text


def test_the_default_is_the_configs_sampling(pipe: Pipeline) -> None:
    assert one(pipe("Go on")).text == one(pipe("Go on", GenerationConfig(temperature=0))).text


def test_each_prompt_may_have_its_own_config(pipe: Pipeline) -> None:
    configs = [GenerationConfig(max_new_tokens=count) for count in (2, 5)]
    assert [found.generate_token_len for found in many(pipe(["a", "b"], configs))] == [2, 5]
    with pytest.raises(RequestError, match="2 generation configs for 1 prompts"):
        pipe("a", configs)


@pytest.mark.parametrize("given", [{"n": 2}, [{"n": 2}], "greedy", 3])
def test_what_is_no_generation_config_is_named(pipe: Pipeline, given: Any) -> None:
    rule = "must be a GenerationConfig, or a list of one for each prompt"
    with pytest.raises(RequestError, match=f"^gen_config={re.escape(repr(given))}: {rule}$"):
        pipe("a", given)
    with pytest.raises(RequestError, match=f": {rule}$"):
        list(pipe.stream_infer("a", given))
    with pytest.raises(RequestError, match=f": {rule}$"):
        pipe.chat("a", gen_config=given)


def test_a_session_is_what_chat_returned(pipe: Pipeline) -> None:
    name: Any = "user-17"
    with pytest.raises(RequestError, match=r"^session='user-17': must be what `chat` returned"):
        pipe.chat("a", session=name)


def test_an_empty_batch_has_no_answers(pipe: Pipeline) -> None:
    assert pipe([]) == []


def test_a_prompt_at_fault_is_named_with_its_place(pipe: Pipeline, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    prompts = ["fine", ("x", "/nowhere.png"), "fine", ("x", tmp_path / "text.png")]
    with pytest.raises(RequestError) as caught:
        pipe(prompts)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("prompts[1]: image 1: /nowhere.png cannot be read")
    assert lines[1].startswith("prompts[3]: image 1: not a picture format we read")
    with pytest.raises(RequestError, match=r"^the prompt takes \d+ tokens"):
        pipe("alone", GenerationConfig(max_new_tokens=5000))


@pytest.mark.parametrize("url", ["http://8.8.8.8:99999/", "http://8.8.8.8:-1/", "http://xn--a/"])
def test_a_picture_url_that_nothing_can_connect_to_is_a_request_error(pipe: Pipeline, url: str) -> None:
    with pytest.raises(RequestError, match=f"image 1: {url} is no URL: ") as caught:
        pipe(("x", url))
    assert caught.value.code == "image_url_invalid"


def test_two_pipelines_live_side_by_side(pipe: Pipeline, tiny_model: Path) -> None:
    with pipeline(tiny_model, *tiny_words(max_new_tokens=3)) as other:
        assert one(other("Go on")).generate_token_len == 3
        assert one(pipe("Go on")).generate_token_len == 12


async def test_it_works_inside_a_running_loop(pipe: Pipeline) -> None:
    assert one(pipe("Go on")).generate_token_len == 12


def test_a_closed_pipeline_says_so(engine: FakeEngine) -> None:
    running = Pipeline(fake_pipeline(engine))
    stream = running.stream_infer("Go on")
    next(stream)
    running.close()
    running.close()
    assert engine.closed
    with pytest.raises(EngineError, match="the pipeline is closed"):
        running("Go on")
    with pytest.raises(EngineError, match="the pipeline is closed"):
        next(stream)


def test_threads_may_share_one(pipe: Pipeline) -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda text: one(pipe(text)).text, ["Go on", "Else"] * 4))
    assert found == [one(pipe(text)).text for text in ("Go on", "Else")] * 4


def test_options_are_those_of_the_command_line(tiny_model: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        pipeline(tiny_model, "engine.tpp=2", engine="pytorch", vision={"max_tiles": "many"})
    assert "unknown key `engine.tpp` (command line `engine.tpp=2`)" in str(caught.value)
    assert "vision.max_tiles='many' (command line `vision.max_tiles=many`): must be" in str(caught.value)
    with pytest.raises(ConfigError, match="unknown key `tpp`"):
        pipeline(tiny_model, tpp=2)
    with pytest.raises(UsageError, match=r"`tp`: is an argument of LMDeploy; write \"engine\.tp=2\""):
        pipeline(tiny_model, tp=2)
    with pytest.raises(ConfigError, match=r"^model\.path=null"):
        pipeline("pocket_vl", model={"path": None})


def test_the_picture_is_not_changed(pipe: Pipeline, picture: Image.Image) -> None:
    before = picture.tobytes()
    pipe((TEXT, picture))
    assert to_rgb(open_picture(picture, index=0, max_pixels=10_000)).tobytes() == before
