"""A model of this machine as a partner."""

from collections.abc import Generator, Sequence

from deployer.config.schema import DeployConfig
from deployer.offline.async_pipeline import AsyncPipeline
from deployer.offline.load_image import read_picture
from deployer.offline.pipeline import Pipeline
from deployer.prompt.messages import ImageSource, Message


class LocalModel:
    """An engine of our own, started when this is made and ended by `close`."""

    def __init__(self, config: DeployConfig) -> None:
        self._config = config
        self._pipe = Pipeline(AsyncPipeline(config))

    @property
    def name(self) -> str:
        """The model and its device."""
        return f"{self._config.model.name} on {self._pipe.ready.device}"

    def picture(self, place: str) -> ImageSource:
        """Return the picture, read once for all turns. Raises ImageError."""
        return read_picture(place, self._config.vision)

    def answer(self, messages: Sequence[Message]) -> Generator[str, None, None]:
        """Yield the answer in pieces. Raises RequestError or EngineError."""
        stream = self._pipe.stream_infer(list(messages))
        try:
            for response in stream:
                yield response.text
        finally:
            stream.close()

    def close(self) -> None:
        """End the engine."""
        self._pipe.close()
