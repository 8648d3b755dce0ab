"""The verb as users meet it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deployer.cli import main
from engines.families import registry
from engines.families.internvl import INTERNVL

PLAN = ["plan", "+model=internvl2_8b"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of `deploy` with these words."""
    code = main(list(words))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def plan(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """Return the plan as JSON."""
    code, out, err = run(capsys, *PLAN, *words, "output=json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_the_tables_name_device_bytes_limits_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, *PLAN)
    assert code == 0
    for text in (
        "internvl2_8b on 1 x h200 (measured ceilings)",
        "memory of each GPU, 139.8 GiB",
        "copy for decode  10.28",
        "= weights        25.33",
        "limited by",
        "tokens  limit ms",
        "1792 x 1344  4 x 3     13   3,328",
        "what would change it most",
    ):
        assert text in out
    assert out.splitlines()[-1].startswith("fits on 1 x h200: 128 requests of 3,072 tokens at once")


def test_a_small_model_is_shown_in_mib(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = _hyper_parameters()
    config["llm_config"] = {**config["llm_config"], "num_hidden_layers": 1, "vocab_size": 64}
    config["vision_config"] = {**config["vision_config"], "num_hidden_layers": 1}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, out, _ = run(capsys, "plan", "+model=local", f"model.path={tmp_path}")
    assert "MiB     %  from" in out


def test_thousands_of_requests_a_second_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "plan", "+model=pocket_vl", "engine=turbomind")
    [row] = [line for line in out.splitlines() if line.startswith("limit ")]
    assert re.fullmatch(r"\d,\d{3}", row.split()[-1]), row


def test_json_holds_every_figure_as_a_number(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys)
    assert (found["schema"], found["fits"]) == (1, True)
    memory = found["figures"]["memory"]
    assert memory["kv_tokens"] == memory["num_pages"] * 64
    assert memory["total_bytes"] - sum(row["num_bytes"] for row in memory["rows"]) == memory["free_bytes"]
    first = found["figures"]["decode"][0]
    assert (first["batch"], first["context"], round(first["limit_tokens_per_s"])) == (1, 1024, 385)


def test_what_does_not_fit_ends_with_exit_code_4_and_a_way_out(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "plan", "+model=internvl2_76b")
    assert (code, err) == (4, "")
    assert "nearest changes that fit" in out
    assert "engine.tp=2" in out
    verdict = r"does not fit on 1 x h200: weights and workspace need 14\d\.\d GiB of 139\.8 GiB"
    assert re.fullmatch(verdict, out.splitlines()[-1])


def test_a_session_that_the_cache_cannot_hold_is_refused_as_the_engine_refuses_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["engine.session_len=32768", "engine.num_gpu_blocks=100"]
    code, out, _ = run(capsys, *PLAN, *words)
    assert code == 4
    assert "KV cache needs 4.00 GiB for one sequence of 32768 tokens (512 pages" in out.splitlines()[-1]


def test_another_device_is_one_word(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "hardware=a100")
    assert found["case"]["hardware"]["memory_gbps"] == 2039
    assert found["figures"]["at_expected"] is None


def test_a_figure_of_the_device_can_be_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    faster = plan(capsys, "hardware.memory_gbps=8600")
    assert faster["figures"]["decode"][0]["limit_ms"] == pytest.approx(2.599 / 2, rel=1e-3)


def test_the_tree_decides_on_tiles_and_dtype(capsys: pytest.CaptureFixture[str]) -> None:
    found = plan(capsys, "vision.max_tiles=6", "vision.thumbnail=false", "engine.dtype=float16")
    assert found["figures"]["pictures"][-1]["tokens"] == 6 * 256
    assert found["case"]["options"]["dtype"] == "float16"


@pytest.mark.parametrize("engine", ["pytorch", "turbomind"])
def test_other_formats_are_planned_beside_the_checkpoints_own(
    capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    found = plan(capsys, "plan.weights=awq", "plan.kv=fp8", f"engine={engine}")
    assert found["runs_today"]
    assert found["figures"]["memory"]["page_bytes"] == 64 * (65_536 + 1024)
    _, out, _ = run(capsys, *PLAN, "plan.weights=awq", "plan.kv=fp8", f"engine={engine}")
    assert "weights awq, KV fp8" in out and "does not run it yet" not in out


def test_auto_means_turbomind_on_a_gpu_and_pytorch_on_a_cpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan(capsys)["case"]["options"]["kind"] == "turbomind"
    on_cpu = plan(capsys, "hardware=cpu", "hardware.memory_bytes=64000000000")["case"]["options"]
    assert (on_cpu["kind"], on_cpu["dtype"]) == ("pytorch", "float32")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["hardware=b300"], 3, "unknown hardware `b300`"),
        (["hardware.memory_gb=1"], 3, "nearest keys: `hardware.memory_gbps`"),
        (
            ["hardware.memory_bytes=0"],
            3,
            "hardware.memory_bytes=0 (command line `hardware.memory_bytes=0`): must be above 0",
        ),
        (
            ["plan.batches=[]"],
            3,
            "plan.batches=[] (command line `plan.batches=[]`): must be a list of numbers from 1 on",
        ),
        (["plan.image_size=[0,3]"], 3, "plan.image_size=[0, 3]: a size is [width, height] in pixels"),
        (["plan.images=-1"], 3, "plan.images=-1 (command line `plan.images=-1`): must be at least 0"),
        (
            ["plan.prompt_tokens=0"],
            3,
            "plan.prompt_tokens=0 (command line `plan.prompt_tokens=0`): must be at least 1",
        ),
        (["engine.max_batch_size=1000000000"], 3, "must be at least 1 and at most 65536"),
        (["vision.max_tiles=100000000"], 3, "must be at least 1 and at most 1024"),
        (["output=yaml"], 3, "must be one of `json`, `table`"),
        (["engine.tp=3"], 3, "must divide the 8 KV heads"),
        (["extra"], 2, "`extra`"),
    ],
)
def test_bad_words_end_in_a_message(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, message: str
) -> None:
    found, out, err = run(capsys, *PLAN, *words)
    assert (found, out) == (code, "")
    assert message in err


@pytest.mark.parametrize("word", ["plan.prompt_tokens=99999999999999999999", "plan.images=1000000000"])
def test_a_request_of_any_size_is_planned_at_once(capsys: pytest.CaptureFixture[str], word: str) -> None:
    """Steps that repeat are multiplied: one after the other these would take years."""
    code, out, _ = run(capsys, *PLAN, word)
    assert code == 4
    assert "tokens, a sequence takes 32,768" in out


def test_a_model_that_no_family_reads_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "FAMILIES", (INTERNVL,))
    code, _, err = run(capsys, "plan", "+model=qwen2_vl_7b")
    assert code == 6
    assert "`Qwen2VLForConditionalGeneration`" in err


def test_a_local_checkpoint_is_planned_from_its_config(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, out, _ = run(capsys, *PLAN, "output=json")
    config = _hyper_parameters()
    (tmp_path / "config.json").write_text(json.dumps(config))
    local, found, err = run(capsys, "plan", "+model=local", f"model.path={tmp_path}", "output=json")
    assert (code, local, err) == (0, 0, "")
    assert json.loads(found)["figures"] == json.loads(out)["figures"]


def test_a_request_pays_for_its_own_picture_where_tiles_differ_in_size(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["plan.images=2", "plan.image_size=[448,448]", "plan.pictures=[[448,448]]", "output=json"]
    code, out, _ = run(capsys, "plan", "+model=qwen2_vl_7b", *words)
    figures = json.loads(out)["figures"]
    assert code == 0
    assert figures["at_limit"]["encode_ms"] < 2.1 * figures["pictures"][0]["encode_ms"]


def test_planning_imports_no_torch() -> None:
    check = (
        "import sys; from deployer.cli import main; code = main(['plan', '+model=internvl2_8b']); "
        "assert code == 0; sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _hyper_parameters() -> dict[str, Any]:
    from deployer.config import load_config

    found = load_config(["+model=internvl2_8b"]).model.hyper_parameters
    assert found is not None
    return found


def test_a_quantized_folder_is_planned_in_its_own_format_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = _hyper_parameters() | {"quantization_config": {"quant_method": "awq", "bits": 4}}
    config["quantization_config"] |= {"group_size": 128, "zero_point": True, "version": "gemm"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    folder = ["model.hub=folder", f"model.path={tmp_path}", "model.repo=null"]
    code, _, err = run(capsys, *PLAN, *folder, "quantization=fp8")
    assert code == 3
    assert f"{tmp_path} holds awq weights; use quantization=auto" in err
    assert plan(capsys, *folder)["case"]["quant"]["format"] == "awq"
