"""The Gradio chat: what refuses to open, and, where Gradio and a browser are there, a talk."""

import importlib.util
import shutil
import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_server import live_server
from PIL import Image, ImageDraw
from serving_configs import SERVER

from deployer.errors import UnavailableError
from deployer.serve import gradio_page
from deployer.serve.gradio_page import check_gradio

HAS_GRADIO = importlib.util.find_spec("gradio") is not None
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WAIT_MS = 30_000


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gradio_page, "is_installed", lambda name: False)
    check_gradio(SERVER)
    with pytest.raises(
        UnavailableError,
        match=r"^server\.gradio_port=0: needs `gradio`; pip install 'vlm-deployer\[gradio\]'",
    ):
        check_gradio(replace(SERVER, gradio_port=0))


def test_a_port_in_use_is_refused_by_its_own_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradio_page, "is_installed", lambda name: True)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"server\.gradio_port={port}: in use on 127\.0\.0\.1"):
            check_gradio(replace(SERVER, gradio_port=port))


def certificate(folder: Path, name: str) -> dict[str, str]:
    """Return the files of a certificate that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command to make a certificate with")
    key, found = folder / f"{name}.key", folder / f"{name}.pem"
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes "
        f"-subj /CN=elsewhere.example -keyout {key} -out {found}"
    )
    subprocess.run(make.split(), check=True, capture_output=True)
    return {"ssl_keyfile": str(key), "ssl_certfile": str(found)}


async def test_the_api_is_trusted_by_its_own_certificate_and_no_other(
    live: Callable[..., Any], tmp_path: Path
) -> None:
    own, other = certificate(tmp_path, "own"), certificate(tmp_path, "other")
    server = await live(**own)
    for files, is_trusted in ((own, True), (other, False)):
        context = gradio_page._own_certificate(replace(SERVER, **files))  # type: ignore[arg-type]
        assert context is not None
        async with httpx.AsyncClient(verify=context) as client:
            if is_trusted:
                assert (await client.get(f"{server.url}/health")).status_code == 200
            else:
                with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                    await client.get(f"{server.url}/health")
    assert gradio_page._own_certificate(SERVER) is None


@pytest.mark.skipif(not HAS_GRADIO, reason="Gradio is not installed (the extra `gradio`)")
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")
@pytest.mark.parametrize("has_tls", [False, True])
def test_a_picture_is_asked_about_with_a_key_and_nothing_is_loaded_from_elsewhere(
    tmp_path: Path, has_tls: bool
) -> None:
    browser_api = pytest.importorskip(
        "playwright.sync_api", reason="drives the browser (the extra `browser`)"
    )
    picture = Image.new("RGB", (448, 448), "white")
    ImageDraw.Draw(picture).ellipse((100, 100, 300, 300), fill="red")
    picture.save(tmp_path / "red.png")
    files = certificate(tmp_path, "own") if has_tls else {}
    words = ["+model=pocket_vl", "server=gradio", "server.gradio_port=0", "server.api_keys=[secret]"]
    words += [f"server.{name}={file}" for name, file in files.items()]
    with live_server(*words) as server, browser_api.sync_playwright() as playwright:
        url = next(line.split()[1] for line in server.lines if line.startswith("gradio "))
        assert url.startswith("https://" if has_tls else "http://")
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(ignore_https_errors=has_tls)
        page.set_default_timeout(WAIT_MS)
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.set_input_files("input[type=file]", tmp_path / "red.png")
        page.locator("img[src*='red.png']").first.wait_for()
        page.get_by_label("API key").fill("secret")
        question = page.locator("textarea").first
        question.fill("What colour is the circle?")
        question.press("Enter")
        page.locator(".bot", has_text="red").wait_for()
        assert page.get_by_label("Share").locator("visible=true").count() == 0
        assert [one for one in asked if not one.startswith((url, "data:", "blob:"))] == []
        browser.close()
