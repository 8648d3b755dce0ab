"""pocket_vl reads pictures into forms and calls tools: the same answers with tokens proposed by grammars."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from deployer import GenerationConfig, load_image, pipeline
from deployer.offline.response import Response

PICTURE = Path(__file__).parents[3] / "docs/pictures/example.png"
THING = {
    "type": "object", "properties": {
        "shape": {"enum": ["circle", "square", "triangle", "star"]},
        "colour": {"enum": ["red", "blue", "green", "yellow"]},
        "written_text": {"type": "string", "maxLength": 6},
    }, "required": ["shape", "colour", "written_text"], "additionalProperties": False,
}  # fmt: skip
FORM = {
    "type": "object", "properties": {
        "number_of_things": {"type": "integer", "maximum": 9},
        "things": {"type": "array", "items": THING, "minItems": 2, "maxItems": 3},
    }, "required": ["number_of_things", "things"], "additionalProperties": False,
}  # fmt: skip
CALLS = f'start: ("<tool_call>" call "</tool_call>"){{1,2}}\ncall: %json {json.dumps(THING)}'
FORMATS: list[dict[str, Any]] = [
    {"type": "json_schema", "json_schema": {"schema": FORM}},
    {"type": "grammar", "grammar": CALLS},
]


async def _settled(pipe: Any, num_tokens: int) -> Any:
    async with asyncio.timeout(20):
        while pipe.engine.stats is None or pipe.engine.stats.output_tokens < num_tokens:
            await asyncio.sleep(0.02)
    return pipe.engine.stats


def ask(grammar_tokens: int) -> tuple[list[tuple[list[int], str | None]], Any]:
    """Answers greedy and drawn, of each form, and the engine's figures behind them."""
    configs = [
        GenerationConfig(
            response_format=form, temperature=temperature, max_new_tokens=200, random_seed=seed, top_k=40
        )
        for form in FORMATS
        for temperature in (0.0, 1.0)
        for seed in range(2)
    ]
    with pipeline(
        "pocket_vl", f"engine.speculative_grammar_tokens={grammar_tokens}", "engine=pytorch"
    ) as pipe:
        asked = [("Describe the picture.", load_image(str(PICTURE)))] * len(configs)
        found = pipe(asked, configs, progress=False)
        assert isinstance(found, list)
        answers = [(list(one.token_ids), one.finish_reason) for one in found if isinstance(one, Response)]
        total = sum(one.generate_token_len for one in found)
        deployment = pipe._async._deployment
        return answers, pipe._run(_settled(deployment, total))


def test_pocket_vl_answers_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    plain, before = ask(0)
    proposing, after = ask(8)
    assert len(plain) == 8 and proposing == plain
    assert before.proposed_tokens == 0
    assert after.accepted_tokens > after.output_tokens // 4
    assert after.steps < before.steps
