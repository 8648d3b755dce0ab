"""What the routes of one server share; made once by `run.py`, or by a test around a fake engine."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from deployer.config.schema import SamplingConfig, ServerConfig, VisionConfig
from deployer.generation.choices import Choice, QueuePlace, choices_of
from deployer.generation.generate import Piece, generate
from deployer.generation.running_sequences import RunningSequences, sequences_of
from deployer.generation.sampling import SamplingRules
from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.recipes.running import Running
from deployer.serve.admission import Admission
from deployer.serve.api_errors import ApiError, ApiFault
from deployer.serve.comeback import retry_after_s
from deployer.serve.kept_responses import KeptResponses
from deployer.serve.metrics import Metrics
from deployer.serve.openai_types import SamplingBody
from deployer.serve.pricing import Pricing
from deployer.serve.request_record import RequestRecord
from deployer.serve.tracing import Tracing
from engines.engine import Engine

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Service:
    """One model behind one HTTP server."""

    engine: Engine
    prompts: PromptBuilder
    admission: Admission
    metrics: Metrics
    tracing: Tracing | None  # None: no traces are asked for
    model_name: str
    adapters: tuple[str, ...]  # names that are served beside it
    created: int  # unix time of the start
    sampling: SamplingConfig
    server: ServerConfig
    vision: VisionConfig
    pricing: Pricing | None  # None: no hardware option describes this device
    running_as: Running  # what GET /v1/deployment answers
    responses: KeptResponses
    # Ends a request of whichever process has it, returns how many sequences; None: this one has all requests.
    end_anywhere: Callable[[str], Awaitable[int]] | None = None
    running: RunningSequences = field(default_factory=RunningSequences)
    # Check the forms of answers: seconds for a large schema, in which the event loop goes on.
    form_threads: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 2, "forms"))

    def close(self) -> None:
        """End the threads, once no request is left; what they are checking still ends by itself."""
        self.form_threads.shutdown(wait=False, cancel_futures=True)

    async def beside_the_loop(self, check: Callable[[], T]) -> T:
        """Return or raise what `check` does, on a thread: for forms of answers, which are compiled."""
        return await asyncio.get_running_loop().run_in_executor(self.form_threads, check)

    def accept(self, body: SamplingBody, record: RequestRecord) -> None:
        """Note what a request says of itself, and refuse it before any work where it cannot be served now.

        Raises ApiError: 404 for another model, 503 while the engine is away.
        """
        record.user, record.metadata = body.user or body.safety_identifier, body.metadata
        record.stream = bool(body.stream)
        record.wants_timings = bool(body.timings)
        self.check_model(body.model)
        record.model = body.model or self.model_name
        if self.engine.state != "ready":
            raise ApiError(self._unavailable())

    def _unavailable(self) -> ApiFault:
        engine = self.engine
        way_out = (
            "restart the server" if engine.state == "dead" else "come back after the time in Retry-After"
        )
        return ApiFault(
            status=503,
            message=f"the engine is {engine.state}, for {engine.state_s:.0f} s: {engine.fault}; {way_out}",
            code="engine_unavailable",
            headers={"retry-after": str(retry_after_s(engine))},
        )

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may give as its model."""
        return (self.model_name, *self.adapters)

    def adapter_of(self, name: str | None) -> str | None:
        """Return the adapter that a request asks for; None: the bare model."""
        return name if name in self.adapters else None

    def place_of(self, record: RequestRecord) -> QueuePlace:
        """Return where the sequences of a request stand, by its class of service."""
        number, priority = self.admission.classes.place_of(record.qos)
        return QueuePlace(service_class=number, priority=priority)

    def check_model(self, name: str | None) -> None:
        """Raise ApiError 404 for another model than the one served; None means that one."""
        if name is not None and name not in self.names:
            raise ApiError(self.no_such_model(name))

    def no_such_model(self, name: str) -> ApiFault:
        """Return the 404 for a model that is not the one served."""
        served = ", ".join(f"`{one}`" for one in self.names) + (" are" if self.adapters else " is")
        message = f"model `{name}` is not served here: {served}"
        return ApiFault(status=404, message=message, code="model_not_found", param="model")

    def choices(
        self,
        rules: SamplingRules,
        prompts: Sequence[Prompt],
        *,
        request_id: str,
        model: str | None,
        record: RequestRecord,
    ) -> list[Choice]:
        """Return the sequences of a request, which has an answer to count from now on.

        Raises InvalidFieldError where an answer does not fit.
        """
        choices = choices_of(
            rules,
            prompts,
            request_id=request_id,
            vocabulary=self.prompts,
            defaults=self.sampling,
            adapter=self.adapter_of(model),
            place=self.place_of(record),
        )
        record.completion = request_id
        return choices

    def generate(self, choices: Sequence[Choice]) -> AsyncGenerator[Piece, None]:
        """Run the sequences of a request."""
        return generate(self.engine, self.prompts.tokenizer, choices, running=self.running)

    async def end_request(self, completion: str) -> int:
        """End a request for an operator; returns how many sequences it had, 0: it does not run."""
        if self.end_anywhere is not None:
            return await self.end_anywhere(completion)
        names = sequences_of(completion, self.running)
        self.running.end(self.engine, names, by="operator")
        return len(names)

    def abort_all(self) -> None:
        """Ask for the end of every sequence, for a shutdown; their requests are answered 503."""
        self.running.end(self.engine, self.running, by="shutdown")
