"""The prompt of a chat, and the rules of its answer: the same for every API that takes one."""

import time
from dataclasses import dataclass

from deployer.generation.field_names import FieldNames
from deployer.generation.sampling import SamplingRules, with_tools
from deployer.prompt.assemble import Prompt
from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import Message
from deployer.serve.api_errors import invalid
from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody
from deployer.serve.request_record import RequestRecord
from deployer.serve.sampling import body_rules
from deployer.serve.service import Service
from deployer.serve.tools import ToolUse, tool_use
from deployer.serve.video_body import MediaBounds
from engines.errors import RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """What a chat asks of the model."""

    prompt: Prompt
    rules: SamplingRules  # of the answer, held to its tools
    tools: ToolUse


async def chat_prompt(
    service: Service,
    body: ChatBody,
    record: RequestRecord,
    *,
    max_tokens: int | None,
    logprobs: int | None,
    names: FieldNames,
) -> ChatPrompt:
    """Check what a chat asks and build its prompt, whose time is noted. Raises ApiError or RequestError.

    `max_tokens` and `logprobs` come from fields that each API names in its own way, as errors do by `names`.
    """
    rules = await body_rules(service, body, max_tokens=max_tokens, logprobs=logprobs, names=names)
    tools = await tool_use(service, body, names)
    rules = with_tools(rules, grammar=tools.grammar, shown_ids=tools.shown_ids)
    begun_s = time.perf_counter()
    messages = _conversation(service, body)
    prompt = await service.prompts.chat(messages, tools=tools.specs)
    record.prompt_is_built(begun_s=begun_s)
    return ChatPrompt(prompt=prompt, rules=rules, tools=tools)


async def count_prompt(service: Service, body: ChatBody, *, names: FieldNames) -> int:
    """Return the tokens of a chat's prompt; what would be refused there is refused here.

    Of pictures the headers are read. Raises ApiError or RequestError.
    """
    service.check_model(body.model)
    rules = await body_rules(service, body, max_tokens=None, logprobs=None, names=names)
    tools = await tool_use(service, body, names)
    with_tools(rules, grammar=tools.grammar, shown_ids=tools.shown_ids)
    planned = await service.prompts.plan(_conversation(service, body), tools=tools.specs)
    return len(planned.token_ids)


def _conversation(service: Service, body: ChatBody) -> list[Message]:
    """Return the messages; bounds of all pictures and videos are checked where there is none, too."""
    if body.mm_processor_kwargs is not None:
        _check_bounds(service, body.mm_processor_kwargs)
    return conversation(body.messages, bounds=body.mm_processor_kwargs)


def _check_bounds(service: Service, bounds: MediaBounds) -> None:
    name = "mm_processor_kwargs"
    for word in ("num_frames", "fps"):
        if getattr(bounds, word) is not None and not service.prompts.takes_videos:
            raise invalid(
                f"`{name}.{word}`: this model takes no videos; leave it out",
                param=f"{name}.{word}",
                code="videos_not_supported",
            )
    try:
        service.prompts.check_fineness(Fineness.of(None, bounds.model_dump()))
    except RequestError as error:
        raise invalid(f"`{name}`: {error}", param=name, code=error.code) from error
