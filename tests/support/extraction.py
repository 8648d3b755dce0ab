"""Forms that pages are read into, answers of them, and a vocabulary and a model that write such answers.

No released weights are at hand. A model that has learned to write JSON chooses, token by token, what mostly
stands behind a token in JSON: here a table of such pairs, counted in made answers, is added to the logits of
a network with random weights. What fills the fields is drawn from them too, and means nothing.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor

from deployer.prompt.byte_level import byte_of_character
from engines.messages import Vocabulary
from engines.steps.step import StepInput

LEARNED, ANSWERS = 6000, 600  # tokens that answers are spelled with; answers that they are counted in
LEAD = 20.0  # added to the logit of what always follows a token; ln of its share of times less for others
# Words, numbers of up to three digits and punctuation stay together with the space before them, much as in
# vocabularies of Llama-3 and Qwen2; numbers too, so that a pair of tokens tells a text from a number.
PIECES = r"[^\r\n\p{L}\p{N}]?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
_WORDS = (
    "paper cartridge desk lamp monitor cable invoice service hours support annual licence software coffee "
    "filter printer office chair standing delivery express packaging wood steel garden hose blue large small "
    "black white repair kit north harbour trading company limited brothers street market square road"
)
WORDS = _WORDS.split()


def _object(**fields: Any) -> dict[str, Any]:
    return {
        "type": "object", "properties": fields, "required": [*fields], "additionalProperties": False,
    }  # fmt: skip


def _list_of(item: dict[str, Any], least: int, most: int) -> dict[str, Any]:
    return {"type": "array", "items": item, "minItems": least, "maxItems": most}


_TEXT = {"type": "string", "maxLength": 40}
_DATE = {"type": "string", "pattern": "^20[0-9]{2}-[01][0-9]-[0-3][0-9]$"}
_AMOUNT = {"type": "number", "minimum": 0, "maximum": 99999}
_COUNT = {"type": "integer", "minimum": 1, "maximum": 99}
INVOICE = _object(
    invoice_number=_TEXT, invoice_date=_DATE, due_date=_DATE,
    seller=_object(name=_TEXT, address=_TEXT, tax_id=_TEXT), buyer=_object(name=_TEXT, address=_TEXT),
    currency={"enum": ["EUR", "USD", "GBP", "CNY"]},
    line_items=_list_of(
        _object(description=_TEXT, quantity=_COUNT, unit_price=_AMOUNT, amount=_AMOUNT), 2, 6
    ),
    subtotal=_AMOUNT, tax_amount=_AMOUNT, total_amount=_AMOUNT,
)  # fmt: skip
RECEIPT = _object(
    merchant=_TEXT, date=_DATE, items=_list_of(_object(name=_TEXT, price=_AMOUNT), 1, 8), total=_AMOUNT,
    payment_method={"enum": ["cash", "card", "other"]},
)  # fmt: skip
FORMS = {"invoice": INVOICE, "receipt": RECEIPT}


def answer(schema: dict[str, Any], dice: random.Random) -> Any:
    """Return a value of one of these forms."""
    if "enum" in schema:
        return dice.choice(schema["enum"])
    if "pattern" in schema:
        return f"20{dice.randrange(15, 27)}-{dice.randrange(1, 13):02}-{dice.randrange(1, 29):02}"
    kind = schema["type"]
    if kind == "object":
        return {name: answer(part, dice) for name, part in schema["properties"].items()}
    if kind == "array":
        num = dice.randrange(schema["minItems"], schema["maxItems"] + 1)
        return [answer(schema["items"], dice) for _ in range(num)]
    if kind == "integer":
        return dice.randrange(1, 20)
    if kind == "number":
        return round(dice.uniform(1, 900), 2)
    return " ".join(dice.choices(WORDS, k=dice.randrange(1, 5))).capitalize()


def answers(indent: int | None) -> list[str]:
    """Return JSON texts of all forms, written as `json.dumps` does."""
    dice = random.Random(0)
    forms = list(FORMS.values())
    return [json.dumps(answer(forms[i % len(forms)], dice), indent=indent) for i in range(ANSWERS)]


class Writer:
    """A vocabulary of `size` ids, and which token mostly stands behind which in its answers."""

    def __init__(self, size: int, *, indent: int | None) -> None:
        texts = answers(indent)
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(PIECES), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=min(LEARNED, size // 2),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator([*texts, *map(json.dumps, FORMS.values())], trainer)
        self.end_id = size - 1
        self.vocabulary = self._filled(tokenizer, size)
        self.pairs = _counted([[*tokenizer.encode(text).ids, self.end_id] for text in texts], size)

    def _filled(self, tokenizer: Tokenizer, size: int) -> Vocabulary:
        """Return what was learned, and made words in the other ids, which masks have to look at too."""
        chars = byte_of_character()
        learned = sorted(tokenizer.get_vocab().items(), key=lambda one: one[1])
        tokens = [bytes(chars[char] for char in text) for text, _ in learned]
        known, dice = set(tokens), random.Random(1)
        while len(tokens) < size - 1:
            word = (
                " " + "".join(dice.choices("abcdefghijklmnopqrstuvwxyz", k=dice.randrange(3, 9)))
            ).encode()
            if word not in known:
                known.add(word)
                tokens.append(word)
        return Vocabulary(tokens=(*tokens, b"</s>"), special_ids=(self.end_id,), end_ids=(self.end_id,))


@dataclass(frozen=True, slots=True)
class Pairs:
    """Which token mostly stands behind which, of R tokens that were seen and, as row 0, any other."""

    rows_V: Tensor  # int64, of each id its row; 0: never seen
    seen_R: Tensor  # int64, the ids that were seen
    leads_NR: Tensor  # added to the logits of `seen_R` behind a token of each of N = R + 1 rows


def _counted(texts: Sequence[Sequence[int]], size: int) -> Pairs:
    seen = sorted({token for text in texts for token in text})
    seen_R = torch.tensor(seen)
    rows_V = torch.zeros(size, dtype=torch.int64)
    rows_V[seen_R] = torch.arange(1, len(seen) + 1)
    counts_NR = torch.zeros(len(seen) + 1, len(seen))
    for text in texts:
        rows = rows_V[torch.tensor(text)]
        ones = torch.ones(len(rows) - 1)
        counts_NR.index_put_((rows[:-1], rows[1:] - 1), ones, accumulate=True)
    likely_NR = counts_NR / counts_NR.sum(1, keepdim=True).clamp(min=1)
    # Where a grammar allows none of what follows: what comes often anywhere.
    anywhere_R = (counts_NR.sum(0) / counts_NR.sum()).clamp(min=1e-9).log() + LEAD
    leads_NR = torch.where(
        likely_NR > 0, likely_NR.clamp(min=1e-3).log() + LEAD, (anywhere_R / 2).clamp(min=0)
    )
    return Pairs(rows_V, seen_R, leads_NR)


def lean(network: Any, pairs: Pairs, device: torch.device, dtype: torch.dtype) -> None:
    """Let the logits of a network lean to what stands behind each token.

    The network stays the object that it is: engines look for its class. Where a step is recorded no line of
    Python runs when it is replayed, and its logits may be asked for outside of the recording. So each row of
    `hidden` has its token with it: as an int32 behind its numbers, whose bits nobody touches.
    """
    rows_V, seen_R = pairs.rows_V.to(device), pairs.seen_R.to(device)
    leads_NR = pairs.leads_NR.to(device, dtype)
    bare_hidden, bare_logits = network.hidden, network.logits
    width = torch.int32.itemsize // dtype.itemsize

    def hidden(step: StepInput, kv: Any) -> Tensor:
        ids_S = step.token_ids_T[step.sample_rows_S].clamp(0, len(rows_V) - 1)  # rows of nobody have any
        rows_S1 = rows_V[ids_S].to(torch.int32).unsqueeze(1)
        return torch.cat([bare_hidden(step, kv), rows_S1.view(dtype)], dim=1)

    def logits(hidden_SX: Tensor) -> Tensor:
        rows_S = hidden_SX[:, -width:].contiguous().view(torch.int32)[:, 0].long()
        logits_SV = bare_logits(hidden_SX[:, :-width].contiguous())
        return logits_SV.index_add(1, seen_R, leads_NR[rows_S])

    network.hidden, network.logits = hidden, logits
