"""Declarative deployment of vision-language models; the names here are inference in Python.

They are imported when they are first used, so that the command line stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deployer.generation.generation_config import GenerationConfig
    from deployer.offline.async_pipeline import AsyncPipeline
    from deployer.offline.load_image import load_image
    from deployer.offline.load_video import load_video
    from deployer.offline.pipeline import Pipeline, async_pipeline, pipeline
    from deployer.offline.response import Response
    from deployer.offline.session import Session

__all__ = [
    "AsyncPipeline",
    "GenerationConfig",
    "Pipeline",
    "Response",
    "Session",
    "async_pipeline",
    "load_image",
    "load_video",
    "pipeline",
]

_PLACES = {
    "AsyncPipeline": "deployer.offline.async_pipeline",
    "GenerationConfig": "deployer.generation.generation_config",
    "Pipeline": "deployer.offline.pipeline",
    "Response": "deployer.offline.response",
    "Session": "deployer.offline.session",
    "async_pipeline": "deployer.offline.pipeline",
    "load_image": "deployer.offline.load_image",
    "load_video": "deployer.offline.load_video",
    "pipeline": "deployer.offline.pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module `deployer` has no attribute `{name}`")
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
