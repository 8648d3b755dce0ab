"""The `anthropic` package against a server of pocket_vl: `python tests/conformance/anthropic_client.py URL`.

Needs the package alone (`pip install anthropic`); prints a line a check, ends with 1 at the first that fails.
"""

import base64
import sys
from pathlib import Path

import anthropic
from pydantic import BaseModel

PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "example.png"
MODEL = "pocket_vl"
GREEDY = {"temperature": 0}  # the package of today has no such argument


class Sign(BaseModel):
    """Whether there is one; a larger schema is beyond the model."""

    there: bool


def main(url: str) -> int:
    """Run every check; returns the exit code."""
    client = anthropic.Anthropic(base_url=url, api_key="none", max_retries=0)
    source = {
        "type": "base64", "media_type": "image/png", "data": base64.b64encode(PICTURE.read_bytes()).decode()
    }  # fmt: skip
    question = {"type": "text", "text": "What does the sign say?"}
    turns = [{"role": "user", "content": [{"type": "image", "source": source}, question]}]

    whole = client.messages.create(model=MODEL, max_tokens=32, messages=turns, extra_body=GREEDY)
    assert whole.stop_reason == "end_turn" and whole.content[0].type == "text", whole
    print("message ", whole.content[0].text, whole.usage.input_tokens, whole.usage.output_tokens)

    with client.messages.stream(model=MODEL, max_tokens=32, messages=turns, extra_body=GREEDY) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text and final.stop_reason == "end_turn", final
    usage = final.usage
    assert usage.input_tokens + (usage.cache_read_input_tokens or 0) == _prompt(whole.usage), usage
    print("stream  ", text, usage.input_tokens, usage.cache_read_input_tokens, usage.output_tokens)

    agent = client.beta.messages.create(
        model=MODEL,
        max_tokens=32,
        messages=turns,
        betas=["context-management-2025-06-27"],
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        mcp_servers=[],
        thinking={"type": "adaptive"},
        extra_body=GREEDY,
    )
    assert agent.content[0].text == whole.content[0].text, agent
    print("agent   ", agent.content[0].text)

    held = client.messages.parse(model=MODEL, max_tokens=400, messages=turns, output_format=Sign)
    print("parse   ", held.parsed_output)

    counted = client.messages.count_tokens(model=MODEL, messages=turns)
    assert counted.input_tokens == _prompt(whole.usage), counted
    print("count   ", counted.input_tokens)

    for kind, fields in (
        (anthropic.NotFoundError, {"model": "other"}),
        (anthropic.BadRequestError, {"max_tokens": 0}),
    ):
        try:
            client.messages.create(**{"model": MODEL, "max_tokens": 8, "messages": turns, **fields})
        except kind as error:
            print("refused ", error.status_code, error.body["error"]["message"], error.request_id)
        else:
            return 1
    return 0


def _prompt(usage: anthropic.types.Usage) -> int:
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
