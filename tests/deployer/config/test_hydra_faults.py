"""A recipe with a mistake is told by file and line, in one sentence, with the way out."""

from pathlib import Path

import pytest

from deployer.config.load import load_config
from deployer.errors import ConfigError

HEAD = "defaults: [deploy, {model: pocket_vl}]\n"


def faults_of(folder: Path, content: str | bytes, *words: str) -> list[str]:
    path = folder / "prod.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        load_config([str(path), *words])
    return [fault.replace(str(folder), "ops") for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (
            HEAD + "server:\n  port: ${oc.env:NO_SUCH_NAME}\n",
            "server.port=${oc.env:NO_SUCH_NAME} (ops/prod.yaml:3): cannot be filled in: the environment "
            "variable `NO_SUCH_NAME` is not set; export it, or write ${oc.env:NO_SUCH_NAME,<value>}",
        ),
        (
            HEAD + "server:\n  port: ${server.prot}\n",
            "server.port=${server.prot} (ops/prod.yaml:3): cannot be filled in: there is no key "
            "`server.prot`; nearest keys: `server.port`, `server.host`, `server.qos`",
        ),
        (
            HEAD + "server:\n  port: ${zzzzzzzzzzzz}\n",
            "server.port=${zzzzzzzzzzzz} (ops/prod.yaml:3): cannot be filled in: there is no key "
            "`zzzzzzzzzzzz`; `deploy explain` shows every key",
        ),
        (
            HEAD + "server:\n  port: ${server.port}\n",
            "server.port=${server.port} (ops/prod.yaml:3): cannot be filled in: it leads back to itself; "
            "write the value out in one of the keys",
        ),
        (
            HEAD + "server:\n  port: ${env:PORT}\n",
            "server.port=${env:PORT} (ops/prod.yaml:3): cannot be filled in: there is no `env`; write "
            "${key} or ${oc.env:NAME}",
        ),
        (
            "defaults: [deploy, {model: pocket_vl}, {engine: turbomind}]\n",
            "ops/prod.yaml: its defaults choose `engine` twice; write {override engine: turbomind}",
        ),
        (
            HEAD + "server: {port: 80\n",
            "ops/prod.yaml:3: is not YAML: while parsing a flow mapping, did not find expected ',' or '}'",
        ),
        (
            HEAD + "server:\n\tport: 80\n",
            "ops/prod.yaml:3: is not YAML: a tab indents this line; use spaces",
        ),
        (HEAD + "server: *nope\n", "ops/prod.yaml:2: is not YAML: found undefined alias"),
        (
            HEAD + "server:\n  port: 1\n  port: 2\n",
            "ops/prod.yaml:4: is not YAML: while constructing a mapping, found duplicate key port",
        ),
        (
            HEAD + "server: [1, 2]\n",
            "server (ops/prod.yaml:2): is a group of keys; write its keys below it, indented",
        ),
        (
            HEAD + "server:\n  host: '${oc.env'\n",
            "server.host: is no interpolation: no viable alternative at input '${oc.env'; write ${key} or "
            "${oc.env:NAME}",
        ),
        (
            "server:\n  port: 80\n",
            "ops/prod.yaml: has no `defaults` to start from: a recipe begins with "
            "`defaults: [deploy, {model: <name>}]`",
        ),
        (
            "defaults: deploy\n",
            "ops/prod.yaml: `defaults` must be a list, as `defaults: [deploy, {model: <name>}]`",
        ),
        (
            "- deploy\n",
            "ops/prod.yaml: holds a list: a recipe is keys and values, and begins with "
            "`defaults: [deploy, {model: <name>}]`",
        ),
        (
            "defaults: [deploy, {modle: pocket_vl}]\n",
            "unknown group `modle` (ops/prod.yaml): nearest groups: `model`",
        ),
        (
            "defaults: [deploy, {model: pocket_v}]\n",
            "unknown model `pocket_v` (ops/prod.yaml): nearest options: `pocket_vl`",
        ),
        (
            "defaults: [{engine: auto}]\n",
            "ops/prod.yaml: has no `model`, `quantization`, `vision`, `chat_template`, `sampling`, "
            "`server`, `target`: begin its list with `deploy`: `defaults: [deploy, {model: <name>}]`",
        ),
        (
            (HEAD + "server:\n  host: caf").encode() + b"\xe9\n",
            "ops/prod.yaml: is not UTF-8 text (invalid continuation byte at byte 58); save it as UTF-8",
        ),
    ],
)
def test_a_mistake_in_a_recipe_is_one_sentence(tmp_path: Path, content: str | bytes, fault: str) -> None:
    assert faults_of(tmp_path, content) == [fault]


def test_a_recipe_without_self_in_its_list_wins_over_what_it_lists_and_nothing_warns(
    tmp_path: Path,
) -> None:
    (tmp_path / "prod.yaml").write_text(HEAD + "server:\n  port: 8001\n")
    assert load_config([str(tmp_path / "prod.yaml")]).server.port == 8001


def test_an_anchor_repeats_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "prod.yaml").write_text(HEAD + "server: {host: &here 127.0.0.2, model_name: *here}\n")
    assert load_config([str(tmp_path / "prod.yaml")]).server.model_name == "127.0.0.2"


def test_a_misspelt_group_is_named_beside_the_missing_model() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(["+modle=pocket_vl"])
    first, second = caught.value.faults
    assert first == "unknown group `modle` (command line `+modle=pocket_vl`): nearest groups: `model`"
    assert second.startswith("missing `model`: ")


def test_types_choices_ranges_and_rules_between_values_are_told_together() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(
            [
                "+model=internvl2_8b",
                "engine.tp=3",
                "engine.dtype=half",
                "engine.session_len=x",
                "sampling.top_p=2",
                "engine.kv=int8",
                "vision.min_tiles=9",
                "vision.max_tiles=two",
                "server.ssl_keyfile=/no/such/key",
            ]
        )
    told = "\n".join(caught.value.faults)
    for part in (
        "unknown key `engine.kv` (command line `engine.kv=int8`): there is `quantization.kv`",
        "engine.dtype='half' (command line `engine.dtype=half`): must be one of `auto`, `bfloat16`, "
        "`float16`, `float32`; nearest: `float16`",
        "engine.session_len='x'",
        "vision.max_tiles='two'",
        "sampling.top_p=2.0 (command line `sampling.top_p=2`): must be above 0 and at most 1",
        "engine.tp=3 (command line `engine.tp=3`): must divide the 8 KV heads of `internvl2_8b`",
        "a private key needs its certificate",
        "there is no such file",
    ):
        assert part in told
    assert "min_tiles" not in told, "a rule about a value that could not be built is left out"
