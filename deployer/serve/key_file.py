"""Keys that stand in a file and not on a command line or in a recipe: clients' and operators'."""

from pathlib import Path

from deployer.config.schema import ServerConfig
from deployer.errors import UnavailableError


def needs_key(server: ServerConfig) -> bool:
    """Tell whether clients must send a key."""
    return bool(server.api_keys) or server.api_keys_file is not None


def all_keys(server: ServerConfig) -> list[str]:
    """Return the keys of the config and of its file: one a line, `#` begins a comment.

    Raises UnavailableError where the file cannot be read or holds none: it would open the server to all.
    """
    if server.api_keys_file is None:
        return list(server.api_keys)
    return [*server.api_keys, *keys_of_file(server.api_keys_file, key="server.api_keys_file")]


def check_key_files(server: ServerConfig) -> None:
    """Raise UnavailableError where a file of keys cannot be used, before anything slow happens."""
    all_keys(server)
    if server.admin_keys_file is not None:
        keys_of_file(server.admin_keys_file, key="server.admin_keys_file")


def keys_of_file(file: str, *, key: str) -> list[str]:
    """Return the keys of a file; `key` is the config's, for messages. Raises UnavailableError."""
    name = f"{key}={file}"
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(f"{name}: cannot be read: {error}") from error
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    keys = [one for one in found if one]
    if not keys:
        raise UnavailableError(f"{name}: holds no key: one a line; or set null for no file")
    return keys
