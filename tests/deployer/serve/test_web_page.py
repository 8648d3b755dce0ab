"""The page's files and who gets them; what a browser makes of them: test_web_page_*in_a_browser.py."""

import re
from collections.abc import Callable
from dataclasses import replace

import httpx
import pytest
from serving_configs import SERVER

from deployer.serve.app import create_app
from deployer.serve.service import Service
from deployer.serve.web_page import FOLDER, shows_page

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def client(service: Service) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(create_app(service)), base_url="http://test")


@pytest.mark.parametrize(
    ("page", "host", "shown"),
    [
        ("local", "127.0.0.1", True),
        ("local", "localhost", True),
        ("local", "0.0.0.0", False),
        ("always", "0.0.0.0", True),
        ("never", "127.0.0.1", False),
    ],
)
def test_the_page_is_for_this_machine_unless_said_otherwise(page: str, host: str, shown: bool) -> None:
    assert shows_page(replace(SERVER, page=page, host=host)) is shown  # type: ignore[arg-type]


async def test_a_browser_gets_the_page_and_others_get_json(serve: Callable[..., Service]) -> None:
    async with client(serve()) as api:
        page = await api.get("/", headers=BROWSER)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in page.headers["content-security-policy"]
        assert (await api.get("/")).json()["model"] == "tiny"


async def test_every_file_that_the_page_names_is_served_with_its_type(serve: Callable[..., Service]) -> None:
    async with client(serve()) as api:
        named = re.findall(r'(?:href|src)="(page/[^"]+)"', (await api.get("/", headers=BROWSER)).text)
        scripts = {f"page/{path.name}" for path in FOLDER.glob("*.js")}
        assert len(named) == 3
        for name in {*named, *scripts}:
            reply = await api.get(f"/{name}")
            assert reply.status_code == 200 and reply.headers["x-content-type-options"] == "nosniff", name
        imported = set(re.findall(r'from "\./([^"]+)"', "".join(p.read_text() for p in FOLDER.glob("*.js"))))
        assert {f"page/{name}" for name in imported} <= scripts
        assert (await api.get("/page/../run.py")).status_code == 404


async def test_a_server_without_the_page_serves_no_file_of_it(serve: Callable[..., Service]) -> None:
    async with client(serve(page="never")) as api:
        assert (await api.get("/", headers=BROWSER)).json()["model"] == "tiny"
        assert (await api.get("/page/main.js")).status_code == 404


async def test_the_page_needs_no_key_but_what_it_asks_does(serve: Callable[..., Service]) -> None:
    async with client(serve(api_keys=["sesame"])) as api:
        assert (await api.get("/", headers=BROWSER)).status_code == 200
        assert (await api.get("/v1/models")).status_code == 401


def test_the_files_name_no_other_server() -> None:
    for path in FOLDER.iterdir():
        urls = set(re.findall(r"(?:https?:)?//[\w.]+\.\w+[\w./]*", path.read_text(encoding="utf-8")))
        assert urls <= {"http://www.w3.org/2000/svg"}, path.name
