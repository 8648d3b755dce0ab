"""Keys from a file: beside those of the config, and never none by mistake."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from serving_configs import SERVER

from deployer.errors import UnavailableError
from deployer.serve.app import create_app
from deployer.serve.key_file import all_keys, needs_key
from deployer.serve.service import Service


async def test_every_key_of_the_file_and_of_the_config_opens(
    serve: Callable[..., Service], tmp_path: Path
) -> None:
    file = tmp_path / "keys"
    file.write_text("# staff\nfirst\n\nsecond   # until spring\n")
    service = serve(api_keys=["third"], api_keys_file=str(file))
    transport = httpx.ASGITransport(create_app(service))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as api:
        for key, status in (("first", 200), ("second", 200), ("third", 200), ("# staff", 401), ("", 401)):
            headers = {"authorization": f"Bearer {key}"}
            assert (await api.get("/v1/models", headers=headers)).status_code == status, key


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n\n"])
def test_a_file_without_keys_does_not_open_the_server(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    server = replace(SERVER, api_keys_file=str(file))
    assert needs_key(server)
    with pytest.raises(UnavailableError, match="holds no key: one a line"):
        all_keys(server)


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="No such file"):
        all_keys(replace(SERVER, api_keys_file=str(tmp_path / "none")))
