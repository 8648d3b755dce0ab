"""The listening socket, and what is refused before anything slow happens."""

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving_configs import SERVER

from deployer.errors import UnavailableError
from deployer.serve.listen import bind, check_tls, is_public, url_of


def test_a_free_port_is_found_and_named() -> None:
    with bind(SERVER) as listener:
        port = listener.getsockname()[1]
        assert url_of(listener, SERVER) == f"http://127.0.0.1:{port}"
        assert url_of(listener, replace(SERVER, ssl_certfile="c")) == f"https://127.0.0.1:{port}"
    with bind(replace(SERVER, host="0.0.0.0")) as listener:
        assert url_of(listener, SERVER).startswith("http://127.0.0.1:")


def test_the_socket_names_its_protocol_so_that_events_are_not_held_back() -> None:
    with bind(SERVER) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(("keep_alive_s", "ends"), [(0.2, True), (30.0, False)])
async def test_an_idle_connection_is_kept_for_as_long_as_the_config_says(
    live: Callable[..., Any], keep_alive_s: float, ends: bool
) -> None:
    server = await live(keep_alive_s=keep_alive_s)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
    writer.write(b"GET /health HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    try:
        await asyncio.wait_for(reader.read(), timeout=0.8)  # to the end of the connection
    except TimeoutError:
        assert not ends
    else:
        assert ends
    writer.close()


def test_a_port_in_use_is_refused_with_the_way_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UnavailableError, match=rf"server.port={port}: in use on 127.0.0.1; .*0: any free"
        ):
            bind(replace(SERVER, port=port))


def test_of_two_servers_that_start_on_one_port_the_second_is_refused_before_the_first_answers() -> None:
    with bind(SERVER) as first:
        port = first.getsockname()[1]
        with pytest.raises(UnavailableError, match=rf"server.port={port}: in use on 127.0.0.1"):
            bind(replace(SERVER, port=port))


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid"])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(UnavailableError, match=f"server.host={host}: "):
        bind(replace(SERVER, host=host))


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("localhost", False),
        ("0.0.0.0", True),
        ("10.0.0.7", True),
    ],
)
def test_a_public_address_is_told_from_a_private_one(host: str, public: bool) -> None:
    assert is_public(host) is public


def test_a_certificate_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    file.write_text("no certificate")
    told = {
        file: "not a PEM certificate with its key",
        tmp_path / "absent.pem": r"cannot be read \(No such file .*\); give files that this user may read",
    }
    for certificate, rule in told.items():
        with pytest.raises(UnavailableError, match=rule):
            check_tls(replace(SERVER, ssl_certfile=str(certificate), ssl_keyfile=str(certificate)))
    check_tls(SERVER)


async def test_https_is_served_with_the_configured_certificate(live: Any, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no `openssl` command to make a certificate with")
    key, certificate = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    make = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}"
    )
    subprocess.run(make.split(), check=True, capture_output=True)
    server = await live(ssl_certfile=certificate, ssl_keyfile=key)
    assert server.url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=certificate)
    async with httpx.AsyncClient(base_url=server.url, verify=trusted) as client:
        assert (await client.get("/health")).status_code == 200
        body = {"prompt": "x", "stream": True}
        assert "[DONE]" in (await client.post("/v1/completions", json=body)).text
