"""The page in headless Chromium, around the fake engine: by keyboard, as a reader sees it and hears it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browsing import PRICED, ask
from fake_engine import FakeEngine, Script


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
