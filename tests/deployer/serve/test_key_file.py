"""Keys from a file: beside those of the config, and never none by mistake."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from serving_configs import SERVER

from deployer.config.schema import QosClass
from deployer.errors import UnavailableError
from deployer.serve.app import create_app
from deployer.serve.key_file import all_keys, check_key_files, needs_key
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


def test_a_clients_key_that_is_an_operators_too_is_refused_and_not_shown(tmp_path: Path) -> None:
    clients, operators = tmp_path / "clients", tmp_path / "operators"
    clients.write_text("# staff\nmine\nshared-b gold\n")
    operators.write_text("\nshared-a  # both\nown\nshared-b\n")
    named = replace(SERVER, api_keys=["own-client", "shared-a"], admin_keys_file=str(operators))
    with pytest.raises(UnavailableError) as caught:
        check_key_files(named)
    assert f"{operators}: holds keys of clients (line 2 and server.api_keys[1])" in str(caught.value)
    gold = QosClass(name="gold", priority=0, share=1.0, max_requests=None)
    with pytest.raises(UnavailableError) as caught:
        check_key_files(replace(named, api_keys_file=str(clients), qos=[gold]))
    assert f"line 4 and line 3 of server.api_keys_file={clients}" in str(caught.value)
    assert "shared" not in str(caught.value)


def test_operators_with_keys_of_their_own_may_start(tmp_path: Path) -> None:
    operators = tmp_path / "operators"
    operators.write_text("own\n")
    check_key_files(replace(SERVER, api_keys=["client"], admin_keys_file=str(operators)))
    check_key_files(replace(SERVER, admin_keys_file=str(operators)))
