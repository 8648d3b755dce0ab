"""langchain-openai with pictures, tools and a schema: `python tests/conformance/langchain_client.py`.

Needs `langchain-openai`. The tiny random model answers, through a template of its own that knows tools.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))
sys.path.insert(0, str(Path(__file__).parents[1] / "end_to_end"))

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from live_server import live_server
from pydantic import BaseModel, Field
from test_answers import picture
from test_tools import TEMPLATE
from tiny_checkpoint import write_tiny_checkpoint


class Seen(BaseModel):
    """What is in the picture."""

    sure: bool
    count: int = Field(ge=0, le=9)


@tool
def move(left: bool) -> str:
    """Move one step."""
    return "left" if left else "right"


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "own.jinja"
        own.write_text(TEMPLATE, encoding="utf-8")
        model = write_tiny_checkpoint(Path(folder) / "model")
        words = ("+model=local", f"model.path={model}", "engine=pytorch", "engine.num_gpu_blocks=512")
        with live_server(*words, "server.model_name=tiny", f"chat_template.file={own}") as server:
            check(f"{server.url}/v1")


def check(url: str) -> None:
    chat = ChatOpenAI(base_url=url, api_key="none", model="tiny", max_tokens=400, temperature=0.7, seed=1)
    look = HumanMessage(
        [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": picture()}}]
    )
    assert chat.invoke([look]).usage_metadata["input_tokens"] > 4
    assert "".join(str(chunk.content) for chunk in chat.stream([look]))
    print("pictures, streamed and not: read")
    for method in ("json_schema", "function_calling"):
        found = chat.with_structured_output(Seen, method=method).invoke([look])
        assert isinstance(found, Seen)
        print(f"{method}: {found}")
    called = chat.bind_tools([move], tool_choice="required", parallel_tool_calls=False).invoke([look])
    (call,) = called.tool_calls
    assert call["name"] == "move"
    result = ToolMessage(move.invoke(call["args"]), tool_call_id=call["id"])
    assert chat.bind_tools([move]).invoke([look, called, result]).response_metadata["finish_reason"]
    print(f"tools: {call['name']}({call['args']}), its result went in")
    through = ChatOpenAI(base_url=url, api_key="none", model="tiny", use_responses_api=True, max_tokens=30)
    assert through.invoke([look]).usage_metadata["input_tokens"] > 4
    assert "".join(str(chunk.text) for chunk in through.stream("Go on"))
    print("responses, streamed and not: read")


if __name__ == "__main__":
    main()
