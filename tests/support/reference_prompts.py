"""The prompts of the InternVL releases, and a tokenizer that knows no other text."""

import json
import re
from typing import Any

from prompt_setup import FIXTURES

REFERENCE = json.loads((FIXTURES / "prompts" / "internvl.json").read_text("utf-8"))


class ReferenceTokenizer:
    """The real tokenizer as far as the reference's prompts show it: ids by stretch between control tokens."""

    drops_first_space = False
    eos_id: int | None = None
    vocab_size = 200_000

    def __init__(self, name: str) -> None:
        self.control: dict[str, int] = REFERENCE["special_ids"][name]
        self.special_ids = frozenset(self.control.values())
        self.bos_id: int | None = 1 if name.startswith("internlm2") else None
        self.stretches: dict[str, list[int]] = {}
        for case in (case for case in REFERENCE["chat"] if case["tokenizer"] == name):
            self.learn(reference_text(case), [entry for entry in case["ids"] if entry != self.bos_id])

    def learn(self, text: str, ids: list[Any]) -> None:
        runs: list[list[int]] = [[]]
        for token_id in ids:
            if isinstance(token_id, list) or token_id in self.special_ids:
                runs.append([])
            else:
                runs[-1].append(token_id)
        for stretch, run in zip(self.split(text)[::2], runs, strict=True):
            assert self.stretches.setdefault(stretch, run) == run

    def split(self, text: str) -> list[str]:
        return re.split("(" + "|".join(map(re.escape, self.control)) + ")", text)

    def encode(self, text: str, *, special: bool) -> list[int]:
        ids = [self.bos_id] if special and self.bos_id is not None else []
        for index, stretch in enumerate(self.split(text)):
            ids += [self.control[stretch]] if index % 2 else self.stretches[stretch]
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        return b"<s>" if token_id == self.bos_id else b"x"

    def ids_of(self, data: bytes) -> list[int]:
        return []

    def token_to_id(self, token: str) -> int | None:
        return self.control.get(token)


def reference_text(case: dict[str, Any]) -> str:
    """Return the prompt of a case, one placeholder for each image."""
    template = REFERENCE["templates"][case["template"]]["single_turn"]
    system, _, _ = template.partition("<|im_end|>")
    question = case["question"]
    if case["tiles_per_image"] and "<image>" not in question and not case["history"]:
        question = f"<image>\n{question}"
    turns = [turn for pair in case["history"] or [] for turn in pair] + [question]
    text = f"{system}<|im_end|>"
    for index, turn in enumerate(turns):
        text += f"<|im_start|>{('user', 'assistant')[index % 2]}\n{turn}<|im_end|>"
    return f"{text}<|im_start|>assistant\n".replace("<image>", "<img><IMG_CONTEXT></img>")
