"""Which template and which system text a deployment uses."""

from pathlib import Path
from typing import Any

import pytest
from prompt_requests import chat, own_template
from prompt_setup import deploy_config, model_spec

from deployer.errors import ConfigError
from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.tokenizer import decode


async def test_system_text_comes_from_config_then_checkpoint_then_template(folder: Path) -> None:
    def prompt(**template: Any) -> PromptBuilder:
        return PromptBuilder(deploy_config(template=template), model_spec(), folder)

    async def text(builder: PromptBuilder) -> str:
        return decode(builder.tokenizer, (await chat(builder, "q")).token_ids)

    assert "InternVL" in await text(prompt())
    (folder / "config.json").write_text('{"system_message": "of the checkpoint"}')
    assert "of the checkpoint" in await text(prompt())
    assert "of the config" in await text(prompt(meta_instruction="of the config"))
    assert "system" not in await text(prompt(meta_instruction=""))


def test_a_template_is_chosen_by_name_or_file(folder: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"chat_template.name=internvl2: must be one of .*; did you mean `intern"
    ):
        PromptBuilder(deploy_config(template={"name": "internvl2"}), model_spec(), folder)
    with pytest.raises(ConfigError, match=r"chat_template.file=/no/such.jinja: must be a file"):
        PromptBuilder(deploy_config(template={"file": "/no/such.jinja"}), model_spec(), folder)
    own = own_template(folder, "")
    with pytest.raises(ConfigError, match=r"own.jinja: its `image_token` \(not set\) must be a token"):
        PromptBuilder(deploy_config(template={"file": str(own)}), model_spec(), folder)


async def test_a_template_that_writes_bos_itself_gets_one(folder: Path) -> None:
    own = own_template(folder, "{{ bos_token }}")
    builder = PromptBuilder(deploy_config(template={"file": str(own)}), model_spec(with_vision=False), folder)
    assert (await chat(builder, "q")).token_ids.count(1) == 1
