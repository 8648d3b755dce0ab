"""What ends an answer, from checkpoint, template and config."""

from pathlib import Path

from prompt_setup import deploy_config, model_spec

from deployer.prompt.assemble import PromptBuilder


def test_stop_rules_join_checkpoint_template_and_config(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [90, 91]}')
    (folder / "config.json").write_text('{"eos_token_id": 92, "llm_config": {"eos_token_id": 93}}')
    builder = PromptBuilder(
        deploy_config(template={"stop_words": ["###", "<img>", ""]}), model_spec(), folder
    )
    assert builder.eos_token_ids == (2, 3, 4, 90, 91, 92, 93)  # </s>, <|im_start|>, <|im_end|>, the files'
    assert builder.stop_token_ids == (5,)
    assert builder.stop_words == ("###",)
