"""What `deploy serve` prints."""

import json
import shlex
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from fake_engine import FakeEngine
from serving_configs import SERVER

from deployer.serve.announce import ready_lines, start_lines, warnings
from engines.quant.weight_quant import WeightQuant

NO_DIFFERENCES: Any = SimpleNamespace(differences=())


def config(**server: Any) -> Any:
    return SimpleNamespace(
        server=replace(SERVER, **server),
        model=SimpleNamespace(name="tiny"),
        engine=SimpleNamespace(tp=1, load_format="checkpoint"),
        quantization=SimpleNamespace(kv="none"),
    )


def loaded(quantization: WeightQuant | None = None) -> Any:
    return SimpleNamespace(spec=SimpleNamespace(quantization=quantization))


def test_the_curl_line_is_a_command_with_a_valid_body() -> None:
    line = ready_lines("http://127.0.0.1:1", "it's", needs_key=True)[1]
    words = shlex.split(line.removeprefix("try").strip())
    assert words[:2] == ["curl", "http://127.0.0.1:1/v1/chat/completions"]
    assert "authorization: Bearer KEY" in words
    assert json.loads(words[-1])["model"] == "it's"


def test_a_public_server_without_keys_is_warned_of() -> None:
    assert warnings(config(), NO_DIFFERENCES) == []
    (line,) = warnings(config(host="0.0.0.0"), NO_DIFFERENCES)
    assert line.startswith("warning: server.host=0.0.0.0")
    assert warnings(config(host="0.0.0.0", api_keys=["k"]), NO_DIFFERENCES) == []


def test_random_weights_are_warned_of() -> None:
    noisy = config()
    noisy.engine.load_format = "random"
    (line,) = warnings(noisy, NO_DIFFERENCES)
    assert "every answer is noise" in line


def test_what_differs_from_the_checkpoint_is_warned_of() -> None:
    opened: Any = SimpleNamespace(differences=("`a` is 1 in the checkpoint, 2 in the model option",))
    assert "the checkpoint counts" in warnings(config(), opened)[0]


def test_sizes_and_phases_are_told(engine: FakeEngine) -> None:
    assert engine.ready is not None
    lines = start_lines(config(), loaded(), engine.ready, engine="pytorch")
    assert lines == [
        "model    tiny, 4096 tokens a session",
        "engine   pytorch on cpu, float32, tp 1",
        "cache    64 pages of 16 tokens in float32, 64.0 KiB",
        "memory   weights 1000 B",
        "start    load 0.1 s",
    ]


def test_formats_of_weights_and_of_keys_and_values_are_told(engine: FakeEngine) -> None:
    assert engine.ready is not None
    asked = config()
    asked.quantization.kv = "int8"
    awq = WeightQuant(format="awq", group_size=128, decoder_only=True)
    lines = start_lines(asked, loaded(awq), engine.ready, engine="pytorch")
    assert lines[1:3] == [
        "engine   pytorch on cpu, float32, awq weights, tp 1",
        "cache    64 pages of 16 tokens in int8, 64.0 KiB",
    ]
