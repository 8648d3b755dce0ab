"""The page in headless Chromium, around the fake engine: by keyboard, as a reader sees it and hears it."""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from fake_engine import FakeEngine, Script
from PIL import Image

api = pytest.importorskip("playwright.async_api", reason="drives the browser (the extra `browser`)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
WAIT_MS = 10_000
PRICED = re.compile(r"\d+ × \d+, \d+ tiles?, \d+ tokens?$")  # the fake measures every picture alike


@pytest.fixture
async def browse(live: Callable[..., Any]) -> AsyncGenerator[Callable[..., Any], None]:
    """Return a coroutine function that opens the page of a server with changed options, ready."""
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        faults: list[str] = []

        async def open_page(**options: Any) -> Any:
            server = await live(**options)
            page = await browser.new_page()
            page.set_default_timeout(WAIT_MS)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on(
                "request",
                lambda asked: (
                    None if asked.url.startswith((server.url, "data:")) else faults.append(asked.url)
                ),
            )
            await page.goto(server.url)
            await page.wait_for_selector("[data-state=ready]")
            return page

        yield open_page
        await browser.close()
        assert faults == [], "an error in a script, or a request to another server"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (12, 8), "red").save(tmp_path / "red.png")
    return tmp_path / "red.png"


async def ask(page: Any, text: str) -> None:
    await page.fill("#question", text)
    await page.keyboard.press("Enter")


async def test_a_picture_is_asked_about_by_keyboard_and_the_answer_is_measured_and_spoken(
    browse: Callable[..., Any], engine: FakeEngine, picture: Path
) -> None:
    page = await browse()
    await page.set_input_files("#file", picture)
    await page.get_by_text(PRICED).wait_for()
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    assert await page.inner_text(".assistant .said") == "It is a red circle."
    assert await page.inner_text("#spoken") == "It is a red circle."
    names = await page.locator(".figures dt").all_inner_texts()
    assert {"first token", "speed", "queue", "prefill", "prompt", "answer"} <= set(names)
    assert len(engine.submits[0].images) == 1
    assert await page.evaluate("document.activeElement.id") == "question"


async def test_escape_stops_an_answer_and_its_sequence(
    browse: Callable[..., Any], engine: FakeEngine
) -> None:
    engine.script = lambda _: Script(endless=True, pause_s=0.005)
    page = await browse()
    await ask(page, "tell me everything")
    await page.locator(".assistant .said", has_text="circle").wait_for()
    assert await page.is_visible("#stop")
    await page.keyboard.press("Escape")
    await page.get_by_text("by you").wait_for()
    assert "circle" in await page.inner_text(".assistant .said") and await page.is_enabled("#send")
    async with asyncio.timeout(5):  # the server hears of it once the browser has closed the connection
        while len(engine.left_early) != 1:
            await asyncio.sleep(0.01)


async def test_an_answer_is_text_and_never_markup(browse: Callable[..., Any], engine: FakeEngine) -> None:
    markup = "<img src=x onerror=alert(1)><b>bold</b>"
    engine.script = lambda _: Script(text=markup)
    page = await browse()
    await ask(page, markup)
    await page.wait_for_selector(".assistant .figures")
    assert await page.locator(".said").all_inner_texts() == [markup, markup]
    assert await page.locator(".said *").count() == 0


async def test_tokens_are_shown_with_their_probability(browse: Callable[..., Any]) -> None:
    page = await browse()
    await page.click("#options summary")
    await page.check("#show-tokens")
    await page.keyboard.press("Escape")
    await ask(page, "hi")
    await page.wait_for_selector(".assistant .figures")
    assert await page.locator(".token").count() > 4
    assert (await page.locator(".token").first.get_attribute("title")).startswith('"I" 77.9 %')  # exp(-0.25)


async def test_a_token_tells_its_probability_by_keyboard_and_by_touch(browse: Callable[..., Any]) -> None:
    page = await browse()
    await page.click("#options summary")
    await page.check("#show-tokens")
    await page.keyboard.press("Escape")
    await ask(page, "hi")
    await page.wait_for_selector(".assistant .figures")
    await page.keyboard.press("Shift+Tab")  # the answer is one stop before the question
    assert (await page.inner_text(".chosen")).startswith('"I" 77.9 %')
    await page.keyboard.press("ArrowRight")
    assert (await page.inner_text(".chosen")).startswith('"t" 77.9 %')
    await page.keyboard.press("End")
    assert (await page.inner_text(".chosen")).startswith('"."')
    await page.keyboard.press("Tab")
    assert await page.evaluate("document.activeElement.id") == "question"
    await page.locator(".token").nth(1).click()
    assert (await page.inner_text(".chosen")).startswith('"t"')


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


async def test_options_are_kept_for_the_next_visit_until_they_are_set_back(
    browse: Callable[..., Any], engine: FakeEngine
) -> None:
    page = await browse()
    await page.click("#options summary")
    await page.get_by_label("Temperature").fill("0.25")
    await page.get_by_label("Seed").fill("7")
    await page.keyboard.press("Escape")
    assert await page.inner_text("#options summary") == "Options (2 set)"
    await page.reload()
    await page.wait_for_selector("[data-state=ready]")
    await ask(page, "hi")
    await page.wait_for_selector(".assistant .figures")
    assert (engine.submits[0].sampling.temperature, engine.submits[0].sampling.seed) == (0.25, 7)
    await page.click("#options summary")
    await page.click("#reset")
    assert await page.inner_text("#options summary") == "Options"
    assert await page.evaluate("localStorage['deployer.options']") == "{}"


async def test_an_option_out_of_its_range_is_shown_and_nothing_is_asked(
    browse: Callable[..., Any], engine: FakeEngine
) -> None:
    page = await browse()
    await page.click("#options summary")
    await page.get_by_label("Temperature").fill("3")
    await page.keyboard.press("Escape")
    await ask(page, "hi")
    await page.wait_for_selector("#options[open]")
    assert await page.evaluate("document.activeElement.id") == "temperature"
    assert engine.submits == [] and await page.input_value("#question") == "hi"


async def test_a_key_is_asked_for_and_the_question_is_not_lost(browse: Callable[..., Any]) -> None:
    page = await browse(api_keys=["sesame"])
    await ask(page, "hello")
    await page.get_by_role("alert").get_by_text("API key").wait_for()
    assert await page.input_value("#question") == "hello"
    await page.get_by_label("API key").fill("sesame")
    await ask(page, "hello")
    await page.wait_for_selector(".assistant .figures")


async def test_a_picture_that_came_before_the_key_is_priced_once_the_key_is_there(
    browse: Callable[..., Any], picture: Path
) -> None:
    page = await browse(api_keys=["sesame"])
    await page.set_input_files("#file", picture)
    await page.get_by_role("alert").get_by_text("API key").wait_for()
    assert await page.get_by_text("no known API key").count() == 1, "said once, and not of the picture"
    await page.get_by_label("API key").fill("sesame")
    await page.focus("#question")
    await page.get_by_text(PRICED).wait_for()
    assert await page.get_by_role("alert").count() == 0
    await ask(page, "what is it")
    await page.wait_for_selector(".assistant .figures")
    assert await page.locator(".user").get_by_text(PRICED).count() == 1


async def test_a_conversation_comes_back_from_the_history_with_its_pictures(
    browse: Callable[..., Any], engine: FakeEngine, picture: Path
) -> None:
    page = await browse()
    await page.set_input_files("#file", picture)
    await page.get_by_text(PRICED).wait_for()
    await ask(page, "what is it")
    await page.wait_for_selector("#history-list li", state="attached")
    await page.reload()
    await page.click("#show-history")
    await page.locator("#history-list").get_by_text("what is it").click()
    assert await page.locator(".user img").count() == 1
    await ask(page, "and now")
    await page.locator(".assistant .figures").nth(1).wait_for()
    assert len(engine.submits[1].images) == 1, "what was said before is sent again"


async def test_a_question_its_options_and_its_tokens_need_no_pointer(
    browse: Callable[..., Any], engine: FakeEngine
) -> None:
    page = await browse()

    async def press(*keys: str) -> str:
        for key in keys:
            await page.keyboard.press(key)
        found: str = await page.evaluate("document.activeElement.id || document.activeElement.tagName")
        return found

    await page.keyboard.type("hi")  # the question has the focus
    assert await press("Tab") == "choose"
    assert await press("Tab", "Enter", "Tab", "Tab") == "temperature"
    await page.keyboard.type("0.5")
    assert await press("Tab", "Tab", "Tab", "l") == "detail"
    assert await press("Tab", "Space") == "show-tokens"
    assert await press("Escape") == "SUMMARY" and not await page.is_visible("#temperature")
    assert await press("Tab") == "send"
    assert await press("Enter") == "question", "where a button is put out of use the focus goes on"
    await page.wait_for_selector(".assistant .figures")
    assert engine.submits[0].sampling.temperature == 0.5
    assert await page.input_value("#detail") == "low"
    await press("Shift+Tab", "ArrowRight")
    assert (await page.inner_text(".chosen")).startswith('"t"')


async def test_every_control_has_a_name_and_can_be_reached(browse: Callable[..., Any]) -> None:
    page = await browse()
    await page.click("#options summary")
    unnamed = await page.evaluate(
        """[...document.querySelectorAll('button, input, textarea, summary')].filter((one) =>
        !one.textContent.trim() && !one.labels?.length && !one.ariaLabel).map((one) => one.id)"""
    )
    assert unnamed == []
    await page.focus("body")
    seen = []
    for _ in range(18):
        await page.keyboard.press("Tab")
        seen.append(await page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert {"show-history", "new", "question", "choose", "SUMMARY", "show-tokens", "send"} <= set(seen)
