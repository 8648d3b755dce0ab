"""The fixtures as `deploy parity` takes them: a folder each, weights drawn, pictures beside them."""

import json
import shutil
from pathlib import Path

from drawn_checkpoint import DRAWN, write_drawn
from family_golden import FIXTURES
from qwen2_video_golden import case_of
from safetensors.torch import load_file, save_file

# By family: every fixture that holds results of a reference.
FOLDERS = {
    path.parent.relative_to(FIXTURES).as_posix(): path.parent
    for path in sorted(FIXTURES.rglob("golden.safetensors"))
}
# Sizes that no kernel of turbomind takes and no released model has: heads of 8 and 24, norms of 12 and 84.
REFUSED = {
    "internvl/llama3_vit6b": "4 pairs in heads of 8",
    "internvl/qwen2": "4 pairs in heads of 8",
    "llava/v16_mistral_hf": "4 pairs in heads of 8",
    "mini_gemini/mini_gemini_hd": "norm over 12 elements",
    "phi3_vision": "12 pairs in heads of 24",
    "text/mistral_v02": "4 pairs in heads of 8",
    "text/phi3_4k": "12 pairs in heads of 24",
    "text/phi3_longrope": "12 pairs in heads of 24",
    "text/qwen2_gqa": "norm over 84 elements",
    "text/qwen2_tied": "4 pairs in heads of 8",
}
_PICTURES = FIXTURES / "internvl" / "images"


def written(name: str, folder: Path) -> Path:
    """Write a fixture into a folder that must not be there."""
    source = FOLDERS[name]
    if (source / DRAWN).exists():
        write_drawn(source, folder)
        _rounded(folder)
    else:
        shutil.copytree(source, folder)
    shutil.copytree(_PICTURES, folder / "images")
    if (source / "video.safetensors").exists():
        file = folder / "golden.safetensors"
        save_file(load_file(file) | case_of(source.name), file)
    return folder


def _rounded(folder: Path) -> None:
    """Store the tensors of which meta.json says so as bfloat16."""
    file = folder / "meta.json"
    suffix = json.loads(file.read_text()).get("stored_in_bfloat16") if file.exists() else None
    if suffix is not None:
        path = folder / "model.safetensors"
        tensors = load_file(path)
        save_file({k: t.bfloat16() if k.endswith(suffix) else t for k, t in tensors.items()}, path)
