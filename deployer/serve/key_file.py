"""`server.api_keys_file`: keys that stand in a file and not on a command line or in a recipe."""

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
    name = f"server.api_keys_file={server.api_keys_file}"
    try:
        text = Path(server.api_keys_file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnavailableError(f"{name}: cannot be read: {error}") from error
    found = [line.partition("#")[0].strip() for line in text.splitlines()]
    keys = [key for key in found if key]
    if not keys:
        raise UnavailableError(f"{name}: holds no key: one a line; or set null for no file")
    return [*server.api_keys, *keys]
