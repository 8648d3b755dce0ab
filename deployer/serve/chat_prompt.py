"""The prompt of a chat, and the rules of its answer: the same for every API that takes one."""

import time
from dataclasses import dataclass

from deployer.generation.sampling import SamplingRules, with_tools
from deployer.prompt.assemble import Prompt
from deployer.serve.conversation import conversation
from deployer.serve.openai_types import ChatBody
from deployer.serve.request_record import RequestRecord
from deployer.serve.sampling import body_rules
from deployer.serve.service import Service
from deployer.serve.tools import ToolUse, tool_use


@dataclass(frozen=True, kw_only=True, slots=True)
class ChatPrompt:
    """What a chat asks of the model."""

    prompt: Prompt
    rules: SamplingRules  # of the answer, held to its tools
    tools: ToolUse


async def chat_prompt(
    service: Service, body: ChatBody, record: RequestRecord, *, max_tokens: int | None, logprobs: int | None
) -> ChatPrompt:
    """Check what a chat asks and build its prompt, whose time is noted. Raises ApiError or RequestError.

    `max_tokens` and `logprobs` come from fields that each API names in its own way.
    """
    rules = await body_rules(service, body, max_tokens=max_tokens, logprobs=logprobs)
    tools = await tool_use(service, body)
    rules = with_tools(rules, grammar=tools.grammar, shown_ids=tools.shown_ids)
    begun_s = time.perf_counter()
    messages = conversation(body.messages, bounds=body.mm_processor_kwargs)
    prompt = await service.prompts.chat(messages, tools=tools.specs)
    record.prompt_is_built(begun_s=begun_s)
    return ChatPrompt(prompt=prompt, rules=rules, tools=tools)
