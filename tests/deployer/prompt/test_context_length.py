"""Prompts that are too long: refused early, explained picture by picture."""

import asyncio
import re
from pathlib import Path

import pytest
from prompt_requests import chat, picture, refused
from prompt_setup import deploy_config, encoded, model_spec

from deployer.prompt import image_tiles
from deployer.prompt.assemble import PromptBuilder
from engines.errors import RequestError


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


@pytest.mark.parametrize("half", ["\ud83d", "\udcff"])
async def test_half_a_character_is_refused_wherever_a_text_comes_from(
    builder: PromptBuilder, half: str
) -> None:
    """In JSON that was cut, in bytes of a terminal that are no UTF-8: no tokenizer takes it."""
    said = f"a text of the prompt holds `\\u{ord(half):04x}`, half of a surrogate pair"
    with pytest.raises(RequestError, match=re.escape(said)):
        builder.text(f"What is {half}?")
    assert said in str(await refused(builder, f"What is {half}?"))


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
