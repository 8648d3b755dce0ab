"""A pipeline around the fake engine, and the tiny random checkpoint for one around a real engine."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from fake_engine import FakeEngine
from fake_prompts import FakePrompts
from prompt_setup import deploy_config
from serving_configs import SAMPLING

from deployer.config.devices import EngineChoice
from deployer.config.schema import DeployConfig
from deployer.offline.async_pipeline import AsyncPipeline
from deployer.prompt.assemble import Prompt
from deployer.prompt.messages import Message
from deployer.prompt.planned import PlannedPrompt
from engines.errors import RequestError
from engines.messages import Ready


class PlanningPrompts(FakePrompts):
    """Prompts of text; a picture that is no data URL is refused, and `broken` where it is decoded."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched = 0

    async def plan(self, messages: Sequence[Message], *, add_generation_prompt: bool = True) -> PlannedPrompt:
        prompt = await self.chat(messages)
        return PlannedPrompt(pieces=(), token_ids=prompt.token_ids, images=())

    async def prepare(self, planned: PlannedPrompt) -> Prompt:
        if b"broken" in bytes(token_id for token_id in planned.token_ids if token_id < 256):
            raise RequestError("image 1: damaged", code="image_unreadable")
        return Prompt(token_ids=planned.token_ids, images=())

    async def fetch(self, messages: Sequence[Message]) -> list[Message]:
        self.fetched += 1
        return list(messages)


@dataclass
class FakeDeployment:
    """A `Deployment` whose engine answers from a script."""

    config: DeployConfig
    engine: FakeEngine
    prompts: PlanningPrompts
    closed: int = 0

    model = cast("Any", type("Model", (), {"differences": ("`a` is 1 in the checkpoint, 2 in the option",)}))
    choice = EngineChoice(kind="pytorch", device="cpu", reason=None)

    async def start(self) -> Ready:
        await self.engine.start()
        assert self.engine.ready is not None
        return self.engine.ready

    async def close(self) -> None:
        self.closed += 1
        await self.engine.close()


def fake_pipeline(
    engine: FakeEngine, *, max_batch_size: int = 8, adapters: Sequence[str] = ()
) -> AsyncPipeline:
    """Return a pipeline that is not started yet."""
    from dataclasses import replace

    config = deploy_config()
    config = replace(
        config, sampling=SAMPLING,
        engine=replace(config.engine, max_batch_size=max_batch_size, adapters=list(adapters)),
        model=cast("Any", type("Model", (), {"name": "tiny"})),
    )  # fmt: skip
    opened = cast("Any", lambda config: FakeDeployment(config, engine, PlanningPrompts()))
    return AsyncPipeline(config, open_deployment=opened)


def tiny_words(*, max_new_tokens: int = 12) -> tuple[str, ...]:
    """The overrides that run the tiny checkpoint on a CPU with little memory, greedily."""
    return (
        "engine=pytorch", "engine.device_type=cpu", "engine.num_gpu_blocks=512", "sampling=greedy",
        "engine.cache_block_seq_len=16", "engine.max_batch_size=16",
        f"sampling.max_new_tokens={max_new_tokens}",
    )  # fmt: skip
