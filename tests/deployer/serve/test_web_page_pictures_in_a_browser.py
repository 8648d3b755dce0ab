"""The page in headless Chromium: pictures as they are shown and priced; refused pictures and keys."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import PRICED, ask
from fake_engine import FakeEngine
from fake_prompts import TRUNCATED
from PIL import Image


async def test_a_refused_picture_is_named_and_left_out_and_the_others_are_asked_about(
    browse: Callable[..., Any], engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"unreadable")
    page = await browse()
    await page.set_input_files("#file", tmp_path / "broken.png")
    told = page.get_by_role("alert").get_by_text("broken.png is left out: cannot be read")
    await told.wait_for()
    await page.click("#send")
    await page.get_by_role("alert").get_by_text("no picture is left to send").wait_for()
    assert engine.submits == []
    await page.set_input_files("#file", picture)
    await page.get_by_text(PRICED).wait_for()
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    assert len(engine.submits[0].images) == 1
    assert await page.locator("#pictures li, .user .picture").count() == 1


async def test_a_picture_that_breaks_off_is_named_when_a_later_turn_is_refused(
    browse: Callable[..., Any], engine: FakeEngine, picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "half.png").write_bytes(TRUNCATED)
    page = await browse()
    await page.set_input_files("#file", picture)
    await page.get_by_text(PRICED).wait_for()
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    await page.set_input_files("#file", tmp_path / "half.png")
    await page.locator("#pictures").get_by_text(PRICED).wait_for()  # its header reads
    await ask(page, "and this")
    await page.get_by_role("alert").get_by_text("half.png: damaged or truncated", exact=True).wait_for()
    assert await page.input_value("#question") == "and this"
    assert await page.inner_text("#pictures .refused > span:last-child") == "left out: damaged or truncated"
    await page.click("#send")
    await page.locator(".assistant .figures").nth(1).wait_for()
    assert len(engine.submits[1].images) == 1, "it is left out, the earlier one is sent"


async def test_a_new_conversation_begins_without_the_refused_pictures(
    browse: Callable[..., Any], picture: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"unreadable")
    page = await browse()
    await page.set_input_files("#file", [picture, tmp_path / "broken.png"])
    await page.get_by_role("alert").get_by_text("broken.png").wait_for()
    await page.click("#new")
    assert await page.locator("#pictures li").count() == 1, "what can be sent stays with the question"
    assert await page.locator(".refused").count() == await page.get_by_role("alert").count() == 0


@pytest.mark.parametrize(("colour", "seen"), [("white", range(100)), ("black", range(200, 256))])
async def test_the_lines_of_tiles_are_seen_on_any_picture(
    browse: Callable[..., Any], tmp_path: Path, colour: str, seen: range
) -> None:
    Image.new("L", (80, 40), colour).save(tmp_path / "plain.png")
    page = await browse()
    await page.set_input_files("#file", tmp_path / "plain.png")
    await page.locator("#pictures line").first.wait_for(state="attached")
    await page.locator("#pictures .frame").screenshot(path=tmp_path / "shown.png")
    shown = Image.open(tmp_path / "shown.png").convert("L")
    below = shown.height * 3 // 4  # the button to remove it lies above
    assert any(shown.getpixel((x, below)) in seen for x in range(shown.width // 2 - 4, shown.width // 2 + 4))
    assert shown.getpixel((shown.width // 4, below)) not in seen


async def test_a_picture_that_the_browser_cannot_show_is_said_so_and_sent(
    browse: Callable[..., Any], engine: FakeEngine, tmp_path: Path
) -> None:
    (tmp_path / "photo.heic").write_bytes(b"....ftypheic")
    page = await browse()
    await page.set_input_files("#file", tmp_path / "photo.heic")
    await page.get_by_text(PRICED).wait_for()
    await page.get_by_text("photo.heic: no preview, this browser cannot show the format").wait_for()
    assert await page.locator("#pictures img").count() == 0
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    assert len(engine.submits[0].images) == 1


async def test_little_detail_is_priced_and_sent(
    browse: Callable[..., Any], engine: FakeEngine, picture: Path
) -> None:
    page = await browse()
    await page.set_input_files("#file", picture)
    await page.get_by_text("28, 3 tiles, 12 tokens").wait_for()
    await page.click("#options summary")
    await page.select_option("#detail", "low")
    await page.get_by_text("28, 1 tile, 4 tokens").wait_for()
    await page.keyboard.press("Escape")
    async with page.expect_request("**/v1/chat/completions") as asked:
        await ask(page, "what is it")
    (message,) = (await asked.value).post_data_json["messages"]
    assert message["content"][0]["image_url"]["detail"] == "low"
    await page.wait_for_selector(".assistant .figures")


async def test_a_picture_that_came_before_the_key_is_priced_once_the_key_is_there(
    browse: Callable[..., Any], picture: Path
) -> None:
    page = await browse(api_keys=["sesame"])
    await page.set_input_files("#file", picture)
    await page.get_by_role("alert").get_by_text("a key is needed").wait_for()
    assert await page.get_by_role("alert").count() == 1, "said once, and not of the picture"
    await page.get_by_label("API key").fill("sesame")
    await page.focus("#question")
    await page.get_by_text(PRICED).wait_for()
    assert await page.get_by_role("alert").count() == 0
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    assert await page.locator(".user").get_by_text(PRICED).count() == 1


async def test_a_key_is_asked_for_beside_its_field_and_the_question_is_not_lost(
    browse: Callable[..., Any],
) -> None:
    page = await browse(api_keys=["sesame"])
    told = page.locator("#key-row").get_by_role("alert")
    await told.get_by_text("a key is needed", exact=True).wait_for()
    await page.locator("#model", has_text="tiny").wait_for()
    assert await page.title() == "tiny · deployer", "the name needs no key"
    await page.get_by_label("API key").fill("oyster")
    await ask(page, "hello")
    await told.get_by_text("this key is not known", exact=True).wait_for()
    await page.locator(".user").wait_for(state="detached")  # the question is refused too
    assert await page.input_value("#question") == "hello" and not await page.is_visible("#fault")
    assert await page.evaluate("document.activeElement.id") == "key"
    await page.get_by_label("API key").fill("sesame")
    await ask(page, "hello")
    await page.wait_for_selector(".assistant .figures")
    assert await page.get_by_role("alert").count() == 0
