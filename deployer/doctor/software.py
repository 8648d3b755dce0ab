"""Python, this package, its extras, and the program that `deploy up` hands a target to."""

import platform
import shutil
from collections.abc import Callable, Iterator

from deployer.config.schema import DeployConfig
from deployer.config.targets import TargetConfig
from deployer.package_version import package_version
from deployer.recipes.findings import Finding
from deployer.targets.programs import HOW_TO_GET, has_compose

# extra -> its packages, and what it is for
EXTRAS = {
    "engine": (("torch",), "every engine"),
    "cuda": (("cuda-bindings", "nvidia-cuda-nvrtc"), "engine=turbomind"),
    "gradio": (("gradio",), "server=gradio"),
    "grpc": (("grpcio", "protobuf"), "server.grpc_port"),
    "heic": (("pillow-heif",), "pictures in HEIC and HEIF"),
    "modelscope": (("modelscope",), "model.hub=modelscope"),
    "otel": (("opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"), "server.otel_endpoint"),
    "ray": (("ray",), "target=ray_serve"),
    "sweep": (("optuna", "matplotlib"), "searches and pictures of `deploy -m bench`"),
    "timm": (("timm", "torchvision"), "vision=timm"),
    "video": (("av",), "videos in files"),
}
PROGRAMS = {"compose": "docker", "kubernetes": "kubectl", "systemd": "systemctl"}


def package_findings(
    config: DeployConfig | None, *, look: Callable[[str], str | None] = package_version
) -> Iterator[Finding]:
    """Yield what is installed; an extra that is missing is an error only where the deployment needs it."""
    needed = extras_of(config) if config is not None else set()
    yield Finding(level="ok", part="python", text=f"{platform.python_version()} on {platform.platform()}")
    yield Finding(level="ok", part="vlm-deployer", text=look("vlm-deployer") or "run from a checkout")
    for extra, (packages, what) in EXTRAS.items():
        found = {name: look(name) for name in packages}
        text = ", ".join(f"{name} {number or 'not installed'}" for name, number in found.items())
        if all(found.values()):
            yield Finding(level="ok", part=f"extra {extra}", text=text)
        else:
            way_out = f"for {what}: pip install 'vlm-deployer[{extra}]'"
            yield Finding(
                level="error" if extra in needed else "warning",
                part=f"extra {extra}",
                text=f"{text}; {way_out}",
            )


def extras_of(config: DeployConfig) -> set[str]:
    """Return the extras without which a deployment does not start, but for torch and the kernels'."""
    asked = {
        "gradio": config.server.gradio_port is not None,
        "grpc": config.server.grpc_port is not None,
        "modelscope": config.model.hub == "modelscope",
        "otel": config.server.otel_endpoint is not None,
        "ray": config.target.kind == "ray_serve",
        "timm": config.vision.name is not None,
    }
    return {extra for extra, needs in asked.items() if needs}


def program_findings(
    target: TargetConfig,
    *,
    which: Callable[[str], str | None] = shutil.which,
    compose: Callable[[], bool] = has_compose,
) -> Iterator[Finding]:
    """Yield whether the program of a target is here; `deploy render` does without it."""
    program = PROGRAMS.get(target.kind)
    if program is None:
        return
    place = which(program)
    if place is not None and (program != "docker" or compose()):
        yield Finding(level="ok", part=program, text=place)
    else:
        lack = "not found" if place is None else f"{place} knows no `docker compose`"
        text = f"{lack}, and `deploy up` needs it: {HOW_TO_GET[program]}; `deploy render` does without it"
        yield Finding(level="warning", part=program, text=text)
