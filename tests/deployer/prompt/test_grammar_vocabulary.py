"""Vocabularies of every layout, as grammars see them."""

import json

import pytest
from prompt_setup import TOKENIZERS

from deployer.generation.response_format import grammar_of
from deployer.prompt.grammar_vocabulary import grammar_vocabulary
from deployer.prompt.tokenizer import load_tokenizer
from engines.sampling.grammar import Grammars

TEXT = json.dumps({"name": "Zoë", "rows": [1, 2.5, None]}, ensure_ascii=False)


@pytest.mark.parametrize("layout", ["byte_level", "internlm2", "llama", "phi3", "qwen2"])
def test_the_model_s_own_tokens_of_a_json_text_pass(layout: str) -> None:
    tokenizer = load_tokenizer(TOKENIZERS / layout)
    assert tokenizer.eos_id is not None
    vocabulary = grammar_vocabulary(tokenizer, (tokenizer.eos_id,))
    assert vocabulary is not None
    grammar = grammar_of({"type": "json_object"})
    assert grammar is not None
    state = Grammars(vocabulary, vocab=tokenizer.vocab_size + 7).open(grammar)
    ids = [*tokenizer.encode(TEXT, special=False), tokenizer.eos_id]
    if tokenizer.token_bytes(ids[0]).strip() == b"":  # a blank that encoding puts in front
        ids = ids[1:]
    for place, token_id in enumerate(ids):
        mask = int.from_bytes(state.mask(ids[:place]), "little")
        assert mask >> token_id & 1, (place, tokenizer.token_bytes(token_id), state.fault)


def test_a_vocabulary_that_ends_no_text_has_no_grammars() -> None:
    assert grammar_vocabulary(load_tokenizer(TOKENIZERS / "qwen2"), ()) is None
