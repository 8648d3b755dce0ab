"""What ships in conf/ is whole: every option composes, every key has its comment, none names code."""

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

import pytest
import yaml
from deployed import deployed

from deployer.assets import resource_dir
from deployer.config import load_config
from deployer.config.arms import arms_of
from deployer.config.hyper_parameters import without_factor_lists
from deployer.config.schema import DeployConfig
from deployer.config.tree import config_tree
from engines.families import known_families, read_spec

CONF = resource_dir("conf")
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
MODELS = config_tree(None, ()).options("model")
DEPLOYMENT_GROUPS = ("engine", "quantization", "vision", "chat_template", "sampling", "server", "target")

# The models that the project promises.
PROMISED = """
internvl2_1b internvl2_2b internvl2_4b internvl2_8b internvl2_26b internvl2_40b internvl2_76b
internvl_chat_v1_5 mini_internvl_chat_2b_v1_5 mini_internvl_chat_4b_v1_5
internlm_xcomposer2_vl_7b internlm_xcomposer2d5_7b qwen_vl_chat deepseek_vl_1_3b_chat deepseek_vl_7b_chat
phi_3_vision_128k cogvlm_chat cogvlm2_llama3_chat_19b yi_vl_6b yi_vl_34b
llava_v1_5_7b llava_v1_5_13b llava_v1_6_vicuna_7b llava_v1_6_vicuna_13b llava_v1_6_mistral_7b llava_v1_6_34b
minicpm_llama3_v_2_5 mini_gemini_7b mini_gemini_13b mini_gemini_7b_hd mini_gemini_13b_hd glm_4v_9b
qwen2_vl_2b qwen2_vl_7b qwen2_vl_72b qwen2_5_vl_3b qwen2_5_vl_7b qwen2_5_vl_72b
internvl3_1b internvl3_2b internvl3_8b internvl3_14b internvl3_38b internvl3_78b
llama2_7b llama2_13b llama2_70b llama3_8b llama3_70b llama3_1_8b llama3_1_70b mistral_7b
internlm2_1_8b internlm2_7b internlm2_20b internlm2_5_7b qwen2_0_5b qwen2_1_5b qwen2_7b qwen2_72b
qwen2_5_0_5b qwen2_5_7b qwen2_5_72b phi_3_mini yi_6b yi_34b pocket_vl local
"""


def leaf_keys(kind: type[Any], prefix: str = "") -> Iterator[str]:
    for name, hint in get_type_hints(kind).items():
        arms = arms_of(hint)
        for arm in arms:
            yield from leaf_keys(arm, f"{prefix}{name}.")
        if not arms:
            yield f"{prefix}{name}"


def test_every_promised_model_has_an_option() -> None:
    assert set(PROMISED.split()) <= set(MODELS)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "local"])
def test_every_model_composes_and_holds(model: str) -> None:
    config = deployed(model)
    assert config.model.name == model
    assert config.model.revision is None, "no commit is known for sure"
    assert config.chat_template.name == config.model.template
    if config.model.hub == "huggingface":
        assert config.model.hyper_parameters, "planning needs the sizes"


@pytest.mark.parametrize("group", DEPLOYMENT_GROUPS)
def test_every_option_of_every_group_composes(group: str) -> None:
    for option in config_tree(None, ()).options(group):
        load_config(["+model=internvl2_2b", f"{group}={option}"])


def test_models_of_a_family_that_runs_are_read_by_its_reader() -> None:
    read = []
    for model in MODELS:
        config = deployed(model).model if model != "local" else None
        if config is None or config.family not in known_families() or config.hyper_parameters is None:
            continue
        spec = read_spec(without_factor_lists(config.hyper_parameters), origin=model)
        assert spec.family == config.family
        read.append(model)
    assert {"internvl2_1b", "internvl2_8b", "internvl2_26b", "internvl2_40b", "internvl_chat_v1_5"} <= set(
        read
    )


def test_the_sizes_of_internvl2_8b_are_the_published_ones() -> None:
    parameters = deployed("internvl2_8b").model.hyper_parameters
    assert parameters is not None
    spec = read_spec(parameters, origin="conf")
    decoder = spec.decoder
    assert (decoder.num_layers, decoder.hidden, decoder.num_heads, decoder.num_kv_heads) == (32, 4096, 32, 8)
    assert (decoder.ffn, decoder.vocab) == (14336, 92553)
    assert spec.vision is not None and spec.vision.assembly.segments(spec.vision.pixels.plan(448, 448)) == (
        256,
    )


def test_every_key_of_the_schema_stands_in_yaml() -> None:
    from deployer.config.compose import compose

    settings = {
        key
        for target in config_tree(None, ()).options("target")
        for key in compose(["+model=internvl2_2b", f"target={target}"]).origins.settings
    }
    for key in leaf_keys(DeployConfig):
        assert any(name == key or name.startswith(f"{key}.") for name in settings), f"{key} stands in no file"


def test_no_default_lives_in_the_schema() -> None:
    pending: list[Any] = [DeployConfig]
    while pending:
        kind = pending.pop()
        for field, hint in zip(fields(kind), get_type_hints(kind).values(), strict=True):
            assert field.default is MISSING and field.default_factory is MISSING, (
                f"{kind.__name__}.{field.name}"
            )
            pending.extend(arms_of(hint))


@pytest.mark.parametrize("file", FILES)
def test_the_first_line_of_every_file_says_what_it_is_for(file: str) -> None:
    assert (CONF / file).read_text(encoding="utf-8").startswith("# ")


@pytest.mark.parametrize("file", [file for file in FILES if file.partition("/")[0] in DEPLOYMENT_GROUPS])
def test_every_key_of_a_deployment_has_a_comment(file: str) -> None:
    alone = {"kind", "name"}  # they say the option's own name
    for line in (CONF / file).read_text(encoding="utf-8").splitlines():
        key, colon, _ = line.partition(":")
        if colon and not line.startswith((" ", "#", "-")) and key != "defaults":
            assert "#" in line or key in alone, f"{file}: {line}"


@pytest.mark.parametrize("file", FILES)
def test_no_file_names_code_or_nests_a_hydra_block(file: str) -> None:
    text = (CONF / file).read_text(encoding="utf-8")
    assert "_target_" not in text
    assert "hydra" not in (yaml.safe_load(text) or {})
