import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from engines.errors import CheckpointError
from engines.spec import Companion
from engines.weights.checkpoint import Checkpoint, SafetensorsShard

TENSORS = {"a": torch.arange(12.0).reshape(4, 3), "b": torch.arange(5.0), "c": torch.ones(2, 2).bfloat16()}


def write_single(folder: Path) -> None:
    save_file(TENSORS, folder / "model.safetensors")


def write_sharded(folder: Path) -> None:
    write_shards(folder, "model-{}.safetensors", "model.safetensors.index.json", save_file)


def write_bin(folder: Path) -> None:
    torch.save(TENSORS, folder / "pytorch_model.bin")


def write_old_bin(folder: Path) -> None:
    torch.save(TENSORS, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)


def write_sharded_bin(folder: Path) -> None:
    write_shards(folder, "pytorch_model-{}.bin", "pytorch_model.bin.index.json", torch.save)


def write_shards(
    folder: Path, name: str, index: str, save: Callable[[dict[str, Tensor], Path], None]
) -> None:
    save({"a": TENSORS["a"]}, folder / name.format(1))
    save({"b": TENSORS["b"], "c": TENSORS["c"]}, folder / name.format(2))
    weight_map = {"a": name.format(1), "b": name.format(2), "c": name.format(2)}
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


NAMES = {save_file: "model.safetensors", torch.save: "pytorch_model.bin"}
WRITERS = [write_single, write_sharded, write_bin, write_old_bin, write_sharded_bin]


@pytest.mark.parametrize("write", WRITERS)
def test_every_container_gives_names_shapes_and_stretches(
    write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path)
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.shapes == {"a": (4, 3), "b": (5,), "c": (2, 2)}
    assert torch.equal(checkpoint.read("a", axis=0, start=1, length=2), TENSORS["a"][1:3])
    assert torch.equal(checkpoint.read("a", axis=1, start=1, length=2), TENSORS["a"][:, 1:])
    assert torch.equal(checkpoint.read("b", axis=0, start=0, length=5), TENSORS["b"])
    assert checkpoint.read("c", axis=0, start=0, length=2).dtype == torch.bfloat16


@pytest.mark.parametrize("write", [save_file, torch.save])
def test_a_single_number_is_read_whole(
    write: Callable[[dict[str, Tensor], Path], None], tmp_path: Path
) -> None:
    """CLIP's `logit_scale` is one, which `deploy quantize` copies with all that it does not change."""
    write({"logit_scale": torch.tensor(4.6)}, tmp_path / NAMES[write])
    checkpoint = Checkpoint(tmp_path)
    assert checkpoint.shapes == {"logit_scale": ()}
    assert torch.equal(checkpoint.read("logit_scale", axis=0, start=0, length=1), torch.tensor(4.6))


def test_safetensors_are_preferred_to_bin(tmp_path: Path) -> None:
    write_single(tmp_path)
    torch.save({"other": torch.ones(1)}, tmp_path / "pytorch_model.bin")
    assert "other" not in Checkpoint(tmp_path).shapes


@pytest.mark.parametrize("write", [write_single, write_bin, write_old_bin])
@pytest.mark.parametrize("kept", [0, 3, 40, -1])
def test_a_truncated_file_is_named(write: Callable[[Path], None], kept: int, tmp_path: Path) -> None:
    write(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=f"cannot read {path} .*must be a whole"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("write", "names"),
    [
        (write_sharded, "model-1.safetensors, model-2.safetensors"),
        (write_sharded_bin, "pytorch_model-1.bin, pytorch_model-2.bin"),
    ],
)
def test_all_missing_shards_are_named(write: Callable[[Path], None], names: str, tmp_path: Path) -> None:
    write(tmp_path)
    for path in tmp_path.glob("*-?.*"):
        path.unlink()
    with pytest.raises(
        CheckpointError, match=f"2 of 2 shards named by .* are missing: {names}; fetch them again"
    ):
        Checkpoint(tmp_path)


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    write_sharded(tmp_path)
    save_file({"a": TENSORS["a"], "b": TENSORS["b"]}, tmp_path / "model-1.safetensors")
    with pytest.raises(CheckpointError, match=r"tensor `b` .*is in another shard too"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 3}}'])
def test_a_broken_index_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot read .*index\.json .*must map tensor names to shards"):
        Checkpoint(tmp_path)


def test_an_index_cannot_lead_out_of_its_folder(tmp_path: Path) -> None:
    index = {"weight_map": {"a": "../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"names \.\./secret\.safetensors: shards must lie beside it"):
        Checkpoint(tmp_path)


def test_a_folder_without_weights_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        CheckpointError, match=r"no weights in .*which holds config\.json: must hold model\.safetensors"
    ):
        Checkpoint(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint folder .*nowhere: must be a folder"):
        Checkpoint(tmp_path / "nowhere")


class Intruder:
    """An object whose unpickling would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_bin_file_never_runs(zipped: bool, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / "pytorch_model.bin"
    torch.save({"a": Intruder(mark)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="must be a whole file of tensors alone"):
        Checkpoint(tmp_path)
    path.write_bytes(pickle.dumps(Intruder(mark), protocol=2))
    with pytest.raises(CheckpointError, match="must be a whole file of tensors alone"):
        Checkpoint(tmp_path)
    assert not mark.exists()


def test_a_bin_file_of_something_else_is_refused(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(1), "step": 3}, tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="must hold a dict of tensors and nothing else"):
        Checkpoint(tmp_path)


COMPANION = Companion(folder="zoo/tower", prefix="vision.")


def write_tower(folder: Path, file: str = "model.safetensors") -> None:
    folder.mkdir(parents=True)
    tensors = {"w": torch.full((2, 2), 7.0)}
    torch.save(tensors, folder / file) if file.endswith(".bin") else save_file(tensors, folder / file)


@pytest.mark.parametrize("place", ["m/zoo/tower", "m/tower", "tower"])
def test_weights_left_to_another_folder_are_read_under_a_prefix(tmp_path: Path, place: str) -> None:
    (tmp_path / "m").mkdir()
    write_single(tmp_path / "m")
    write_tower(tmp_path / place)
    checkpoint = Checkpoint(tmp_path / "m", [COMPANION])
    assert checkpoint.shapes["vision.w"] == (2, 2)
    assert checkpoint.read("vision.w", axis=0, start=1, length=1).tolist() == [[7.0, 7.0]]


def test_a_checkpoints_own_tensors_of_that_prefix_come_first(tmp_path: Path) -> None:
    write_tower(tmp_path / "tower")
    save_file({"vision.w": torch.zeros(2, 2)}, tmp_path / "model.safetensors")
    assert Checkpoint(tmp_path, [COMPANION]).read("vision.w", axis=0, start=0, length=2).sum() == 0


def test_a_companion_may_have_a_file_name_of_its_own(tmp_path: Path) -> None:
    write_single(tmp_path)
    write_tower(tmp_path / "tower", "open_clip_pytorch_model.bin")
    named = replace(COMPANION, file="open_clip_pytorch_model.bin")
    assert "vision.w" in Checkpoint(tmp_path, [named]).shapes
    with pytest.raises(CheckpointError, match=r"no `other\.bin` in .*tower: must hold these weights"):
        Checkpoint(tmp_path, [replace(COMPANION, file="other.bin")])


def test_a_companion_that_is_not_there_is_named(tmp_path: Path) -> None:
    write_single(tmp_path)
    with pytest.raises(CheckpointError, match="no folder `zoo/tower` in or beside"):
        Checkpoint(tmp_path, [COMPANION])


def test_a_file_that_may_not_be_read_is_not_called_broken(tmp_path: Path) -> None:
    """A folder in its place is refused to root too, as a file without the right to read is to others."""
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory; let this user read it"):
        SafetensorsShard(tmp_path)
