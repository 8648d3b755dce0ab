"""Keys that stand in a file and not on a command line or in a recipe: clients' and operators'."""

from dataclasses import dataclass

from deployer.config.schema import ServerConfig
from deployer.errors import UnavailableError
from deployer.typed_path import typed_path


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientKey:
    """A key, and the class of service of its requests."""

    key: str
    place: str  # where it stands, as a message names it
    qos: str | None = None  # None: server.qos_default


def needs_key(server: ServerConfig) -> bool:
    """Tell whether clients must send a key."""
    return bool(server.api_keys) or server.api_keys_file is not None


def all_keys(server: ServerConfig) -> list[ClientKey]:
    """Return the keys of the config and of its file: one a line, a class behind it or not, `#` for comments.

    Raises UnavailableError where the file cannot be read or holds none (it would open the server to all), and
    for a class that `server.qos` does not have.
    """
    given = [
        ClientKey(key=key, place=f"server.api_keys[{place}]") for place, key in enumerate(server.api_keys)
    ]
    if server.api_keys_file is None:
        return given
    name = f"server.api_keys_file={server.api_keys_file}"
    lines = _numbered(server.api_keys_file, key="server.api_keys_file")
    return [*given, *(_client_key(line, server, name, number) for number, line in lines)]


def _client_key(line: str, server: ServerConfig, file: str, number: int) -> ClientKey:
    key, _, behind = line.partition(" ")
    qos = behind.strip() or None
    known = sorted(one.name for one in server.qos)
    if qos is not None and qos not in known:
        listed = ", ".join(f"`{name}`" for name in known)
        rule = f"server.qos has {listed}" if known else "server.qos is empty"
        raise UnavailableError(f"{file}: a key is of class `{qos}`: {rule}; name the class there, or drop it")
    return ClientKey(key=key, place=f"line {number} of {file}", qos=qos)


def check_key_files(server: ServerConfig) -> None:
    """Raise UnavailableError where the keys cannot be used, before anything slow happens.

    That is also where a client's key is an operator's: whoever may ask could drain the server.
    """
    clients = all_keys(server)
    file = server.admin_keys_file
    if file is None:
        return
    operators = {key: number for number, key in _numbered(file, key="server.admin_keys_file")}
    both = [f"line {operators[one.key]} and {one.place}" for one in clients if one.key in operators]
    if both:
        raise UnavailableError(
            f"server.admin_keys_file={file}: holds keys of clients ({'; '.join(both)}): a client's key must "
            "open no path of operators; give them keys of their own"
        )


def keys_of_file(file: str, *, key: str) -> list[str]:
    """Return the lines of a file that hold keys; `key` is the config's. Raises UnavailableError."""
    return [line for _, line in _numbered(file, key=key)]


def _numbered(file: str, *, key: str) -> list[tuple[int, str]]:
    """Return the lines that hold keys, each with its number in the file, from 1."""
    name = f"{key}={file}"
    try:
        text = typed_path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(f"{name}: cannot be read: {error}") from error
    found = [" ".join(line.partition("#")[0].split()) for line in text.splitlines()]
    keys = [(number, one) for number, one in enumerate(found, start=1) if one]
    if not keys:
        raise UnavailableError(f"{name}: holds no key: one a line; or set null for no file")
    return keys
