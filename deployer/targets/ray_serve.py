"""`target=ray_serve`, rendered: the config file of Ray Serve, which `serve deploy` sends to a cluster."""

from typing import Any

from deployer.config.schema import DeployConfig
from deployer.config.targets import RayServeTarget
from deployer.plan.plan import Plan
from deployer.recipes.flat import public
from deployer.targets.carried import carried
from deployer.targets.needs import needs_of
from deployer.targets.written import Rendered
from deployer.yaml_text import yaml_text


def render(config: DeployConfig, plan: Plan) -> list[Rendered]:
    """Return the file. Raises ConfigError or NoFitError for what no node can run."""
    target, server = config.target, config.server
    assert isinstance(target, RayServeTarget), "chosen by its kind"
    needs = needs_of(config, plan)
    there = carried(
        config,
        needs,
        host=server.host,
        port=server.port,
        api_keys_file=server.api_keys_file,  # a path that every node must have
        has_model_folder=True,  # and so is the checkpoint's
        target=target,
    )
    serving = {
        "proxy_location": "EveryNode",
        "http_options": {
            "host": server.host,
            "port": server.port,
            "request_timeout_s": target.request_timeout_s,
        },
        "applications": [application(needs.name, there)],
    }
    return [Rendered(path="serve.yaml", text=yaml_text(serving))]


def application(name: str, config: DeployConfig) -> dict[str, Any]:
    """Return the entry of a deployment among the applications of Ray Serve's config."""
    return {
        "name": name,
        "route_prefix": "/",
        "import_path": "deployer.ray_serve.application:build",
        "args": {"deployment": public(config)},
    }
