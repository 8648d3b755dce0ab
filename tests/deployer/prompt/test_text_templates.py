"""The templates of text models, written out for a conversation with and without a system text."""

import pytest

from deployer.assets import resource_dir
from deployer.prompt.chat import ChatTemplate
from deployer.prompt.messages import Message
from engines.errors import RequestError

TURNS = [Message.of("user", "Q1"), Message.of("assistant", "A1"), Message.of("user", "Q2")]
SYSTEM = Message.of("system", "S")

PLAIN = {
    "chatml": "<|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
    "internlm2": "<s><|im_start|>user\nQ1<|im_end|>\n<|im_start|>assistant\nA1<|im_end|>\n"
    "<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
    "llama2": "<s>[INST] Q1 [/INST] A1 </s><s>[INST] Q2 [/INST]",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nQ1<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nA1<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nQ2<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "mistral": "<s>[INST] Q1 [/INST] A1</s>[INST] Q2 [/INST]",
    "phi-3": "<|user|>\nQ1<|end|>\n<|assistant|>\nA1<|end|>\n<|user|>\nQ2<|end|>\n<|assistant|>\n",
    "qwen": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nQ1<|im_end|>\n"
    "<|im_start|>assistant\nA1<|im_end|>\n<|im_start|>user\nQ2<|im_end|>\n<|im_start|>assistant\n",
}
OPENING = {
    "chatml": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1",
    "internlm2": "<s><|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1",
    "llama2": "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nQ1 [/INST] A1 </s><s>[INST] Q2",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
    "<|start_header_id|>user",
    "mistral": "<s>[INST] S\n\nQ1 [/INST] A1</s>[INST] Q2",
    "phi-3": "<|system|>\nS<|end|>\n<|user|>\nQ1",
    "qwen": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ1",
}


def shipped(name: str) -> ChatTemplate:
    path = resource_dir("chat_templates") / f"{name}.jinja"
    return ChatTemplate(path, bos_token="<s>", eos_token="</s>", origin=f"chat_template.name={name}")


def prompt(template: ChatTemplate, *messages: Message, system: str | None = None) -> str:
    (text,) = template.render(messages, system=system, add_generation_prompt=True).pieces
    return text


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_a_conversation_is_written_as_the_model_was_trained(name: str) -> None:
    assert prompt(shipped(name), *TURNS) == PLAIN[name]


@pytest.mark.parametrize("name", sorted(OPENING))
def test_a_system_text_of_the_config_and_one_of_the_client_write_the_same(name: str) -> None:
    opened = prompt(shipped(name), *TURNS, system="S")
    assert opened.startswith(OPENING[name])
    assert prompt(shipped(name), SYSTEM, *TURNS, system="other") == opened
    assert "S" not in prompt(shipped(name), *TURNS, system="").replace("<s>", "").replace("INST", "")


@pytest.mark.parametrize("name", ["llama2", "mistral"])
def test_a_system_text_in_the_middle_is_refused(name: str) -> None:
    with pytest.raises(RequestError, match="only the first message may be a system message"):
        prompt(shipped(name), *TURNS, SYSTEM)
