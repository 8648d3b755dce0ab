"""Connections for picture downloads: only to addresses that were checked.

A name is resolved once, every address is checked, and one of these is connected to. DNS rebinding needs a
second look-up between check and connection; there is none.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import httpcore

from deployer.prompt.addresses import is_public


class AddressRefusedError(Exception):
    """A host resolves to an address that must not be contacted."""


class PinnedNetwork(httpcore.AsyncNetworkBackend):
    """A network backend for `httpcore` that connects to checked addresses only."""

    def __init__(self, *, allow_private_addresses: bool) -> None:
        self._allow_private = allow_private_addresses
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that answers. Raises AddressRefusedError, httpcore.ConnectError."""
        addresses = await resolve(host, port)
        if not self._allow_private:
            refused = sorted(address for address in addresses if not is_public(address))
            if refused:
                raise AddressRefusedError(f"{host} resolves to {', '.join(refused)}")
        failure: Exception = httpcore.ConnectError(f"{host} has no address")
        for address in addresses:
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Refuse: no picture comes from a socket file."""
        raise AddressRefusedError(f"unix socket {path}")

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await self._inner.sleep(seconds)


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of `host`, each once, in the resolver's order. Raises httpcore.ConnectError."""
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass  # a name, not an address
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host} cannot be resolved: {error}") from error
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
