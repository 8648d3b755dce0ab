"""Whole prompts: against the reference's ids, and every limit that a request can break."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from picture_host import ok, picture_host
from PIL import Image
from prompt_requests import chat, picture, refused
from prompt_setup import PIXELS, deploy_config, encoded, model_spec
from reference_prompts import REFERENCE, ReferenceTokenizer

from deployer.prompt import assemble, image_tiles
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import ImagePart, ImageSize, Message
from deployer.prompt.tokenizer import decode
from engines.errors import RequestError
from engines.vision.assembly.tiles_spec import TilesSpec

PLACEHOLDER = 7  # <IMG_CONTEXT> of the byte-level tokenizer


@pytest.mark.parametrize("case", REFERENCE["chat"], ids=lambda case: f"{case['tokenizer']}-{case['case']}")
async def test_token_ids_are_the_reference_s(
    case: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assemble, "load_tokenizer", lambda _: ReferenceTokenizer(case["tokenizer"]))
    builder = PromptBuilder(deploy_config(), model_spec(vocab=200_000), folder)
    sizes = {1: (28, 28), 2: (56, 28), 3: (84, 28)}  # by tiles, without a thumbnail
    builder._tiles = image_tiles.ImageTiles(  # 256 tokens a tile, as in the reference
        image_tiles.VisionSpec(
            towers=(),
            projector=None,  # type: ignore[arg-type]
            pixels=PIXELS,
            assembly=TilesSpec(rows_per_tile=256),
        ),
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
    assert (first.plan.grid, first.plan.width, first.plan.height) == ((2, 1), 56, 28)
    assert prompt.token_ids.count(PLACEHOLDER) == 17  # the client's own is text, not a slot


async def test_bos_comes_again_behind_each_picture_where_the_template_says_so(
    folder: Path, tmp_path: Path
) -> None:
    """Not between two pictures with no text between them."""
    parts = "{{ part.text if part.type == 'text' else part.slot }}"
    loop = (
        "{% for message in messages %}{% for part in message.content %}" + parts + "{% endfor %}{% endfor %}"
    )
    found = {}
    for setting in ("true", "false"):
        file = tmp_path / f"{setting}.jinja"
        file.write_text(
            "{% set image_token = '<IMG_CONTEXT>' %}{% set bos_each_piece = " + setting + " %}" + loop
        )
        builder = PromptBuilder(deploy_config(template={"file": str(file)}), model_spec(), folder)
        prompt = await chat(builder, "a<IMAGE_TOKEN><IMAGE_TOKEN>b", picture(), picture())
        bos, a, b = builder.tokenizer.bos_id, *builder.tokenizer.encode("ab", special=False)
        found[setting] = [token for token in prompt.token_ids if token != PLACEHOLDER]
        assert found[setting] == ([bos, a, bos, b] if setting == "true" else [bos, a, b])
        await builder.aclose()


async def test_a_thousand_images_are_refused_before_any_is_looked_at(builder: PromptBuilder) -> None:
    error = await refused(builder, "q", *["http://127.0.0.1:9/x"] * 1000)
    assert error.code == "too_many_images"
    assert str(error) == "1,000 images: must be at most 8 a request (vision.max_images)"


async def test_the_first_bad_image_is_named_and_the_others_are_dropped(folder: Path) -> None:
    async with picture_host(picture=ok(encoded(picture()))) as host:
        builder = PromptBuilder(deploy_config(vision={"allow_private_addresses": True}), model_spec(), folder)
        assert (await chat(builder, "q", host.url("/picture"))).images[0].plan.width == 28
        error = await refused(builder, "q", host.url("/picture"), b"no picture", host.url("/silent"))
        assert error.code == "image_format_unsupported" and str(error).startswith("image 2: ")


def test_plain_text_and_ids(builder: PromptBuilder) -> None:
    prompt = builder.text("The circle")
    assert prompt.token_ids[0] == builder.tokenizer.bos_id
    assert decode(builder.tokenizer, prompt.token_ids) == "The circle"
    assert builder.text([5, 6]).token_ids == (5, 6)
    with pytest.raises(RequestError, match=r"the prompt is empty"):
        builder.text([])
    # The model's table has 500 rows, the tokenizer 426 tokens: what stands behind them is no token.
    with pytest.raises(RequestError, match=r"token ids -1, 426 are not in the vocabulary: must be 0 to 425"):
        builder.text([3, 426, 425, -1])
    with pytest.raises(RequestError, match=r"must be fewer than the 2,048") as caught:
        builder.text([3] * 2048)
    assert caught.value.code == "context_length_exceeded"


async def test_a_text_model_takes_no_images(folder: Path) -> None:
    builder = PromptBuilder(deploy_config(), model_spec(with_vision=False), folder)
    assert (await chat(builder, "q")).images == ()
    assert (await refused(builder, "q", picture())).code == "images_not_supported"


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


async def test_only_a_long_text_wakes_a_thread_to_be_tokenized(
    builder: PromptBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    encode = builder.tokenizer.encode

    def noted(text: str, *, special: bool) -> list[int]:
        names.append(threading.current_thread().name)
        return encode(text, special=special)

    monkeypatch.setattr(builder.tokenizer, "encode", noted)
    await chat(builder, "q")
    assert set(names) == {threading.main_thread().name}
    names.clear()
    await chat(builder, "q" * assemble.SHORT_TEXT)
    assert all(name.startswith("prompt") for name in names)


def test_one_builder_serves_several_event_loops(builder: PromptBuilder) -> None:
    prompts = [asyncio.run(chat(builder, "q", picture())) for _ in range(2)]
    assert prompts[0].token_ids == prompts[1].token_ids


async def test_pictures_are_measured_by_their_headers_or_sizes_alone(builder: PromptBuilder) -> None:
    whole = encoded(Image.new("RGB", (56, 28)))
    parts = [
        ImagePart(source=whole[:60]),
        ImageSize(width=56, height=28),
        ImageSize(width=84, height=28, fineness=Fineness(detail="low")),
    ]
    torn, sized, low = await builder.measure(parts)  # the file is torn behind its header: nothing is decoded
    assert torn.plan == sized.plan
    assert (sized.plan.num_tiles, len(sized.token_ids), sized.shapes) == (3, 3 * 4, ((3, 28, 28, 3),))
    assert (low.plan.num_tiles, low.shapes) == (1, ((1, 28, 28, 3),))


async def test_pictures_stand_at_the_marks_of_a_text_without_a_template(builder: PromptBuilder) -> None:
    picture_of = ImagePart(source=encoded(Image.new("RGB", (28, 28))))
    prompt = await builder.marked("a<IMAGE_TOKEN>b", [picture_of])
    [image] = prompt.images
    text = builder.text("a").token_ids
    assert prompt.token_ids[: image.start] == text
    behind = prompt.token_ids[image.start + image.num_tokens :]
    assert behind == tuple(builder.tokenizer.encode("b", special=False))
    with pytest.raises(RequestError, match="1 picture, 0 `<IMAGE_TOKEN>` in the text: must be as many"):
        await builder.marked("a", [picture_of])


async def test_a_size_is_held_to_the_limits_of_pictures(builder: PromptBuilder) -> None:
    with pytest.raises(RequestError, match="must be at most 1,000,000"):
        await builder.measure([ImageSize(width=2000, height=2000)])
    with pytest.raises(RequestError, match="must be at most 8 a request"):
        await builder.measure([ImageSize(width=1, height=1)] * 9)
