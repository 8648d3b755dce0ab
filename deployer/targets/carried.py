"""The config file that goes where the deployment goes: every key with its value, nothing left to compose.

It is what was validated and planned here, changed only in what another machine must have otherwise: the
address to listen on, the file of the keys, the device, the target itself. Secrets and files of this machine
are not carried; who uses them is told the way out.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from deployer.config.schema import DeployConfig
from deployer.config.targets import LocalTarget, TargetConfig
from deployer.errors import ConfigError
from deployer.recipes.flat import public
from deployer.targets.needs import Needs
from deployer.yaml_text import yaml_text

FILE = "deployment.yaml"
HEAD = "# Written by `deploy render`: every key of a deployment. Change the config tree and render again.\n"


def carried(
    config: DeployConfig,
    needs: Needs,
    *,
    host: str,
    port: int,
    api_keys_file: str | None,
    has_model_folder: bool = False,
    target: TargetConfig | None = None,
) -> DeployConfig:
    """Return the deployment as another machine serves it, there with `target` (None: local).

    Raises ConfigError with all that stays behind.
    """
    faults = list(_left_behind(config, api_keys_file=api_keys_file, has_model_folder=has_model_folder))
    if faults:
        raise ConfigError(faults)
    return replace(
        config,
        engine=replace(config.engine, device_type="cuda" if needs.on_gpu else "cpu"),
        server=replace(config.server, host=host, port=port, api_keys_file=api_keys_file),
        target=target or LocalTarget(kind="local", name=needs.name, state_dir=None),
    )


def text_of(config: DeployConfig) -> str:
    """Return the file; it is read back as the same deployment."""
    return HEAD + yaml_text({"defaults": ["_self_"], **public(config)})


def fingerprint(text: str) -> str:
    """Return the hash that tells two carried files apart."""
    return hashlib.sha256(text.encode()).hexdigest()


def _left_behind(config: DeployConfig, *, api_keys_file: str | None, has_model_folder: bool) -> Iterator[str]:
    kind, server = config.target.kind, config.server
    if server.api_keys:
        yield (
            "server.api_keys: a rendered file holds no secret; put the keys into a file (one a line) and "
            f"give {_keys_word(kind)}"
        )
    if server.api_keys_file is not None and api_keys_file is None:
        yield (
            f"server.api_keys_file={server.api_keys_file}: stays on this machine, so the server would be "
            f"open to all; give {_keys_word(kind)}"
        )
    others = {
        "server.admin_keys_file": server.admin_keys_file,
        "server.ssl_certfile": server.ssl_certfile,
        "chat_template.file": config.chat_template.file,
        "vision.file_root": config.vision.file_root,
        "model.download_dir": config.model.download_dir,
    }
    for key, value in others.items():
        if value is not None and kind != "systemd":
            yield f"{key}={value}: is a file of this machine, which a container does not see; {_way_out(key)}"
    if config.model.hub == "folder" and not has_model_folder and kind == "kubernetes":
        yield (
            f"model.path={config.model.path}: is a folder of this machine, which no pod sees; copy it into a "
            "PersistentVolumeClaim and give target.model_claim=<claim>, or use a model of a hub"
        )


def _keys_word(kind: str) -> str:
    if kind == "kubernetes":
        return (
            "target.api_keys_secret=<name> after "
            "`kubectl create secret generic <name> --from-file=api_keys=FILE`"
        )
    return "server.api_keys_file=<file>"


def _way_out(key: str) -> str:
    return {
        "server.admin_keys_file": "leave it out: a rolling update drains a container, nobody else need",
        "server.ssl_certfile": "leave it out: TLS ends at what stands before the container",
        "chat_template.file": "build an image that holds it and name a template of chat_templates/",
        "vision.file_root": "leave it out: pictures come by URL or in the request",
        "model.download_dir": "leave it out: the cache of the container is used",
    }[key]
