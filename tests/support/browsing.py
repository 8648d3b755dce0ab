"""The page in headless Chromium, for its tests: a fixture that opens it, a picture to send, a question."""

import re
import shutil
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

WAIT_MS = 10_000
PRICED = re.compile(r"\d+ × \d+, \d+ tiles?, \d+ tokens?$")  # the fake measures every picture alike


def chromium() -> str:
    """Return the browser on the path; skip where there is none."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium on the path")


@pytest.fixture
async def browse(live: Callable[..., Any]) -> AsyncGenerator[Callable[..., Any], None]:
    """Return a coroutine function that opens the page of a server with changed options, ready."""
    api = pytest.importorskip("playwright.async_api", reason="drives the browser (the extra `browser`)")
    async with api.async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
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
