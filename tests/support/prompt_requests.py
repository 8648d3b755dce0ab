"""Requests in the shape that most tests of prompts need: one user message."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from deployer.prompt.assemble import Prompt, PromptBuilder
from deployer.prompt.fineness import Fineness
from deployer.prompt.messages import ImagePart, Message, TextPart
from engines.errors import RequestError

RNG = np.random.default_rng(0)


def picture(width: int = 28, height: int = 28) -> Image.Image:
    return Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


async def chat(builder: PromptBuilder, text: str, *sources: Any, **fineness: Any) -> Prompt:
    parts = [ImagePart(source=source, fineness=Fineness(**fineness)) for source in sources]
    return await builder.chat([Message(role="user", parts=(*parts, TextPart(text=text)))])


async def refused(builder: PromptBuilder, text: str, *sources: Any, **fineness: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await chat(builder, text, *sources, **fineness)
    return caught.value


def own_template(folder: Path, start: str) -> Path:
    """Write a template of one's own that knows texts and slots only."""
    path = folder / "own.jinja"
    parts = "{% for p in m.content %}{{ p.slot if p.type == 'image' else p.text }}{% endfor %}"
    path.write_text(f"{start}{{% for m in messages %}}{parts}{{% endfor %}}")
    return path
