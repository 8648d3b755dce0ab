"""The response object of /v1/responses: what was asked, what came out, what it cost."""

import time
from typing import Any

from deployer.serve.request_record import RequestRecord
from deployer.serve.response_types import ResponseBody
from deployer.serve.service import Service


def new_response(service: Service, body: ResponseBody, *, response_id: str, store: bool) -> dict[str, Any]:
    """Return the object of a response that begins."""
    asked = body.model_dump(by_alias=True, exclude_none=True)
    sampling = service.sampling
    return {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "model": body.model or service.model_name,
        "output": [],
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": body.previous_response_id,
        "reasoning": {"effort": None, "summary": None},
        "service_tier": "default",
        "store": store,
        "temperature": sampling.temperature if body.temperature is None else body.temperature,
        "text": {"format": asked.get("text", {}).get("format", {"type": "text"})},
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": [_tool(tool) for tool in asked.get("tools", [])],
        "top_logprobs": body.top_logprobs or 0,
        "top_p": sampling.top_p if body.top_p is None else body.top_p,
        "truncation": "disabled",
        "usage": None,
        "user": body.user,
        "metadata": body.metadata or {},
    }


def end_response(
    response: dict[str, Any], record: RequestRecord, *, output: list[dict[str, Any]], is_complete: bool
) -> None:
    """Fill in how a response ended."""
    response["status"] = "completed" if is_complete else "incomplete"
    if is_complete:
        response["completed_at"] = int(time.time())
    else:
        response["incomplete_details"] = {"reason": "max_output_tokens"}
    response["output"] = output
    response["usage"] = {
        "input_tokens": record.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": record.cached_tokens,
            "image_tokens": record.image_tokens,
            **record.notes(),
        },
        "output_tokens": record.output_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": record.prompt_tokens + record.output_tokens,
    }


def _tool(tool: dict[str, Any]) -> dict[str, Any]:
    return {"description": None, "parameters": None, "strict": None, **tool}
