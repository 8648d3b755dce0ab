"""Whole prompts: against the reference's ids, and every limit that a request can break."""

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_host import ok, picture_host
from PIL import Image
from prompt_setup import FIXTURES, PIXELS, TOKENIZERS, deploy_config, encoded, model_spec

from deployer.errors import ConfigError
from deployer.prompt import assemble, image_tiles
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.messages import ImagePart, Message, TextPart
from deployer.prompt.tokenizer import decode
from engines.errors import RequestError
from engines.vision.pixels.dynamic_tiles import dynamic_tiles

REFERENCE = json.loads((FIXTURES / "prompts" / "internvl.json").read_text("utf-8"))
PLACEHOLDER = 7  # <IMG_CONTEXT> of the byte-level tokenizer
RNG = np.random.default_rng(0)


def picture(width: int = 28, height: int = 28) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for path in (TOKENIZERS / "byte_level").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "config.json").write_text("{}")
    return tmp_path


@pytest.fixture
def builder(folder: Path) -> Iterator[PromptBuilder]:
    builder = PromptBuilder(deploy_config(), model_spec(), folder)
    yield builder
    asyncio.run(builder.aclose())


async def chat(builder: PromptBuilder, text: str, *sources: Any, detail: Any = "auto") -> Prompt:
    parts = [ImagePart(source=source, detail=detail) for source in sources]
    return await builder.chat([Message(role="user", parts=(*parts, TextPart(text=text)))])


def own_template(folder: Path, start: str) -> Path:
    """Write a template of one's own that knows texts and slots only."""
    path = folder / "own.jinja"
    parts = "{% for p in m.content %}{{ p.slot if p.type == 'image' else p.text }}{% endfor %}"
    path.write_text(f"{start}{{% for m in messages %}}{parts}{{% endfor %}}")
    return path


async def refused(builder: PromptBuilder, text: str, *sources: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await chat(builder, text, *sources)
    return caught.value


class ReferenceTokenizer:
    """The real tokenizer as far as the reference's prompts show it: ids by stretch between control tokens."""

    drops_first_space = False
    eos_id: int | None = None
    vocab_size = 200_000

    def __init__(self, name: str) -> None:
        self.control: dict[str, int] = REFERENCE["special_ids"][name]
        self.special_ids = frozenset(self.control.values())
        self.bos_id: int | None = 1 if name.startswith("internlm2") else None
        self.stretches: dict[str, list[int]] = {}
        for case in (case for case in REFERENCE["chat"] if case["tokenizer"] == name):
            self.learn(reference_text(case), [entry for entry in case["ids"] if entry != self.bos_id])

    def learn(self, text: str, ids: list[Any]) -> None:
        runs: list[list[int]] = [[]]
        for token_id in ids:
            if isinstance(token_id, list) or token_id in self.special_ids:
                runs.append([])
            else:
                runs[-1].append(token_id)
        for stretch, run in zip(self.split(text)[::2], runs, strict=True):
            assert self.stretches.setdefault(stretch, run) == run

    def split(self, text: str) -> list[str]:
        return re.split("(" + "|".join(map(re.escape, self.control)) + ")", text)

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids = [self.bos_id] if special and self.bos_id is not None else []
        for index, stretch in enumerate(self.split(text)):
            ids += [self.control[stretch]] if index % 2 else self.stretches[stretch]
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return b"<s>" if token_id == self.bos_id else b"x"

    def ids_of(self, data: bytes) -> list[int]:
        return []

    def token_to_id(self, token: str) -> int | None:
        return self.control.get(token)


def reference_text(case: dict[str, Any]) -> str:
    """Return the prompt of a case, one placeholder for each image."""
    template = REFERENCE["templates"][case["template"]]["single_turn"]
    system, _, _ = template.partition("<|im_end|>")
    question = case["question"]
    if case["tiles_per_image"] and "<image>" not in question and not case["history"]:
        question = f"<image>\n{question}"
    turns = [turn for pair in case["history"] or [] for turn in pair] + [question]
    text = f"{system}<|im_end|>"
    for index, turn in enumerate(turns):
        text += f"<|im_start|>{('user', 'assistant')[index % 2]}\n{turn}<|im_end|>"
    return f"{text}<|im_start|>assistant\n".replace("<image>", "<img><IMG_CONTEXT></img>")


@pytest.mark.parametrize("case", REFERENCE["chat"], ids=lambda case: f"{case['tokenizer']}-{case['case']}")
async def test_token_ids_are_the_reference_s(
    case: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "load_tokenizer", lambda _: ReferenceTokenizer(case["tokenizer"]))
    builder = PromptBuilder(deploy_config(), model_spec(vocab=200_000), folder)
    sizes = {1: (28, 28), 2: (56, 28), 3: (84, 28)}  # by tiles, without a thumbnail
    builder._tiles = image_tiles.ImageTiles(  # 256 tokens a tile, as in the reference
        image_tiles.VisionSpec(tower=None, projector=None, pixels=PIXELS, tokens_per_tile=256),  # type: ignore[arg-type]
        deploy_config(vision={"thumbnail": False}).vision,
    )
    images = [ImagePart(source=picture(*sizes[tiles])) for tiles in case["tiles_per_image"] or ()]
    turns = [turn for pair in case["history"] or [] for turn in pair] + [case["question"]]
    messages = [Message.of("assistant" if index % 2 else "user", turn) for index, turn in enumerate(turns)]
    messages[0] = Message(role="user", parts=(*messages[0].parts, *images))
    prompt = await builder.chat(messages)
    expected: list[int] = []
    for entry in case["ids"]:
        expected += [entry[0]] * entry[1] if isinstance(entry, list) else [entry]
    assert list(prompt.token_ids) == expected
    assert len(prompt.token_ids) == case["length"]
    assert [image.num_tokens for image in prompt.images] == [
        256 * tiles for tiles in case["tiles_per_image"] or ()
    ]
    await builder.aclose()


async def test_slots_lie_where_images_say(builder: PromptBuilder) -> None:
    prompt = await chat(builder, "Compare <IMG_CONTEXT> them", picture(56, 28), picture())
    first, second = prompt.images
    for image in prompt.images:
        assert set(prompt.token_ids[image.start : image.start + image.num_tokens]) == {PLACEHOLDER}
        assert (
            prompt.token_ids[image.start - 1]
            != PLACEHOLDER
            != prompt.token_ids[image.start + image.num_tokens]
        )
    assert (first.num_tokens, second.num_tokens, prompt.num_image_tokens) == (
        12,
        4,
        16,
    )  # 2 tiles + thumbnail, 1 tile
    assert (first.grid, first.width, first.height) == ((2, 1), 56, 28)
    assert prompt.token_ids.count(PLACEHOLDER) == 17  # the client's own is text, not a slot


async def test_tiles_are_those_of_the_preprocessing(builder: PromptBuilder) -> None:
    image = picture(61, 90)
    prompt = await chat(builder, "q", encoded(image))
    assert np.array_equal(prompt.images[0].tiles, dynamic_tiles(image, PIXELS))
    assert prompt.images[0].tiles.dtype == np.uint8


async def test_the_key_tells_pictures_and_options_apart(folder: Path, builder: PromptBuilder) -> None:
    image = picture(60, 30)
    other = image.copy()
    other.putpixel((59, 29), (1, 2, 3))
    turned = Image.frombytes("RGB", (30, 60), image.tobytes())
    configs = [{"max_tiles": 5}, {"min_tiles": 2}, {"thumbnail": False}]
    builders = [
        builder,
        *(PromptBuilder(deploy_config(vision=config), model_spec(), folder) for config in configs),
    ]
    keys = {(await chat(each, "q", image)).images[0].key for each in builders}
    keys |= {(await chat(builder, "q", changed)).images[0].key for changed in (other, turned)}
    keys.add((await chat(builder, "q", image, detail="low")).images[0].key)
    assert len(keys) == len(builders) + 3
    same = [encoded(image), encoded(image, "BMP"), image.convert("RGBA")]
    assert {(await chat(builder, "another text", source)).images[0].key for source in same} < keys
    assert all(len(key) == 16 for key in keys)


async def test_detail_low_is_one_tile(builder: PromptBuilder) -> None:
    image = picture(140, 30)
    tokens = {
        d: (await chat(builder, "q", image, detail=d)).images[0].num_tokens for d in ("low", "high", "auto")
    }
    assert tokens == {"low": 4, "high": 24, "auto": 24}  # 5 tiles and a thumbnail


async def test_vision_settings_override_the_checkpoint_s(folder: Path) -> None:
    for vision, tiles in (({"max_tiles": 2}, 3), ({"thumbnail": False}, 5), ({"min_tiles": 6}, 7)):
        builder = PromptBuilder(deploy_config(vision=vision), model_spec(), folder)
        assert (await chat(builder, "q", picture(140, 28))).images[0].tiles.shape == (tiles, 28, 28, 3)
    with pytest.raises(ConfigError, match=r"vision.min_tiles=7: must not exceed vision.max_tiles=6"):
        PromptBuilder(deploy_config(vision={"min_tiles": 7}), model_spec(), folder)


async def test_a_thousand_images_are_refused_before_any_is_looked_at(builder: PromptBuilder) -> None:
    error = await refused(builder, "q", *["http://127.0.0.1:9/x"] * 1000)
    assert error.code == "too_many_images"
    assert str(error) == "1,000 images: must be at most 8 a request (vision.max_images)"


async def test_the_first_bad_image_is_named_and_the_others_are_dropped(folder: Path) -> None:
    async with picture_host(picture=ok(encoded(picture()))) as host:
        builder = PromptBuilder(deploy_config(vision={"allow_private_addresses": True}), model_spec(), folder)
        assert (await chat(builder, "q", host.url("/picture"))).images[0].width == 28
        error = await refused(builder, "q", host.url("/picture"), b"no picture", host.url("/silent"))
        assert error.code == "image_format_unsupported" and str(error).startswith("image 2: ")


async def test_a_prompt_that_is_too_long_says_what_each_image_costs(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(session_len=256), model_spec(), folder)
    images = [picture(56, 28), picture(140, 28)] * 4
    error = await refused(builder, "word " * 100, *images)
    assert error.code == "context_length_exceeded"
    found = re.search(
        r"has (\d+) tokens: must be fewer than the 256 .*; text (\d+), image 1 \(56x28, 3 tiles\) 12",
        str(error),
    )
    assert found is not None, str(error)
    assert int(found[1]) - int(found[2]) == 4 * (12 + 24)
    assert "image 8 (140x28, 6 tiles) 24" in str(error)


async def test_a_prompt_that_is_too_long_is_refused_before_pixels_are_decoded(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = PromptBuilder(deploy_config(session_len=100), model_spec(), folder)
    monkeypatch.setattr(image_tiles, "to_rgb", lambda _: pytest.fail("decoded"))
    cut = encoded(picture(140, 28))[:60]  # only the header is whole
    assert (await refused(builder, "word " * 100, cut)).code == "context_length_exceeded"


async def test_an_endless_text_is_refused_without_encoding_it(
    folder: Path, builder: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.tokenizer, "encode", lambda *_, **__: pytest.fail("encoded"))
    for refuse in (
        lambda: builder.text("x" * 2_000_000),
        lambda: asyncio.run(chat(builder, "x" * 2_000_000)),
    ):
        with pytest.raises(RequestError, match=r"characters, at least [\d,]+ tokens") as caught:
            await asyncio.to_thread(refuse)
        assert caught.value.code == "context_length_exceeded"


async def test_a_text_that_might_fit_is_encoded_and_counted(builder: PromptBuilder) -> None:
    with pytest.raises(RequestError, match=r"the prompt has [\d,]+ tokens"):
        builder.text("a" * 40_000)


async def test_one_token_of_an_answer_must_fit(folder: Path, builder: PromptBuilder) -> None:
    length = len((await chat(builder, "q")).token_ids)
    spec = model_spec()
    assert await chat(PromptBuilder(deploy_config(session_len=length + 1), spec, folder), "q")
    await refused(PromptBuilder(deploy_config(session_len=length), spec, folder), "q")


def test_session_len_is_the_engine_s_then_the_config_s_then_the_model_s(folder: Path) -> None:
    assert PromptBuilder(deploy_config(session_len=9), model_spec(), folder, session_len=8).session_len == 8
    assert PromptBuilder(deploy_config(session_len=9), model_spec(), folder).session_len == 9
    assert PromptBuilder(deploy_config(), model_spec(), folder).session_len == 2048


def test_plain_text_and_ids(builder: PromptBuilder) -> None:
    prompt = builder.text("The circle")
    assert prompt.token_ids[0] == builder.tokenizer.bos_id
    assert decode(builder.tokenizer, prompt.token_ids) == "The circle"
    assert builder.text([5, 6]).token_ids == (5, 6)
    with pytest.raises(RequestError, match=r"the prompt is empty"):
        builder.text([])
    with pytest.raises(RequestError, match=r"token ids -1, 500 are not in the vocabulary: must be 0 to 499"):
        builder.text([3, 500, -1])
    with pytest.raises(RequestError, match=r"must be fewer than the 2,048") as caught:
        builder.text([3] * 2048)
    assert caught.value.code == "context_length_exceeded"


async def test_a_text_model_takes_no_images(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), model_spec(with_vision=False), folder)
    assert (await chat(builder, "q")).images == ()
    assert (await refused(builder, "q", picture())).code == "images_not_supported"


async def test_system_text_comes_from_config_then_checkpoint_then_template(folder: Path) -> None:
    def prompt(**template: Any) -> PromptBuilder:
        return PromptBuilder(deploy_config(template=template), model_spec(), folder)

    async def text(builder: PromptBuilder) -> str:
        return decode(builder.tokenizer, (await chat(builder, "q")).token_ids)

    assert "InternVL" in await text(prompt())
    (folder / "config.json").write_text('{"system_message": "of the checkpoint"}')
    assert "of the checkpoint" in await text(prompt())
    assert "of the config" in await text(prompt(system="of the config"))
    assert "system" not in await text(prompt(system=""))


def test_a_template_is_chosen_by_name_or_file(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"chat_template.name=internvl2: must be one of .*; did you mean `internvl"
    ):
        PromptBuilder(deploy_config(template={"name": "internvl2"}), model_spec(), folder)
    with pytest.raises(ConfigError, match=r"chat_template.file=/no/such.jinja: must be a file"):
        PromptBuilder(deploy_config(template={"file": "/no/such.jinja"}), model_spec(), folder)
    own = own_template(folder, "")
    with pytest.raises(ConfigError, match=r"own.jinja: its `image_token` \(not set\) must be a token"):
        PromptBuilder(deploy_config(template={"file": str(own)}), model_spec(), folder)


async def test_a_template_that_writes_bos_itself_gets_one(folder: Path) -> None:
    own = own_template(folder, "{{ bos_token }}")
    builder = PromptBuilder(deploy_config(template={"file": str(own)}), model_spec(with_vision=False), folder)
    assert (await chat(builder, "q")).token_ids.count(1) == 1


def test_stop_rules_join_checkpoint_template_and_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [90, 91]}')
    (folder / "config.json").write_text('{"eos_token_id": 92, "llm_config": {"eos_token_id": 93}}')
    builder = PromptBuilder(
        deploy_config(template={"stop_words": ["###", "<img>", ""]}), model_spec(), folder
    )
    assert builder.eos_token_ids == (2, 3, 4, 90, 91, 92, 93)  # </s>, <|im_start|>, <|im_end|>, the files'
    assert builder.stop_token_ids == (5,)
    assert builder.stop_words == ("###",)


async def test_the_event_loop_goes_on_while_a_picture_is_decoded(
    builder: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    to_rgb = image_tiles.to_rgb

    def slow(*arguments: Any) -> Any:
        entered.set()
        assert go_on.wait(5), "the loop never came round"
        return to_rgb(*arguments)

    monkeypatch.setattr(image_tiles, "to_rgb", slow)
    task = asyncio.create_task(chat(builder, "q", picture()))
    while not entered.is_set():
        await asyncio.sleep(0.001)
    go_on.set()
    assert len((await task).images) == 1


def test_one_builder_serves_several_event_loops(builder: PromptBuilder) -> None:
    prompts = [asyncio.run(chat(builder, "q", picture())) for _ in range(2)]
    assert prompts[0].token_ids == prompts[1].token_ids


async def test_an_animation_is_noted(builder: PromptBuilder) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    prompt = await chat(builder, "q", encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert prompt.images[0].notes == ("first of 2 frames used",)
