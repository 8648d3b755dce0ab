"""The config of a CLIP tower: nested, in a folder of its own, or known by that folder's name. Torch-free."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from engines.families.config_section import ConfigSection
from engines.vision.towers.clip_vit_spec import Activation, ClipVitSpec
from engines.weights.companion_folder import companion_folder

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
LARGE_336: Mapping[str, Any] = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "hidden_act": "quick_gelu",
}
HUGE_448: Mapping[str, Any] = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "hidden_act": "gelu",
}
# Of released models, for plans that are made without their files.
BY_NAME = {
    "clip-vit-large-patch14-336": LARGE_336,
    "clip-vit-H-14-laion2B-s32B-b79K-yi-vl-6B-448": HUGE_448,
    "clip-vit-H-14-laion2B-s32B-b79K-yi-vl-34B-448": HUGE_448,
}


def padding_colour(mean: tuple[float, ...] = MEAN) -> tuple[int, int, int]:
    """Return the colour that comes out as about 0 once it is normalised."""
    red, green, blue = (int(255 * part) for part in mean)
    return red, green, blue


def named_clip(section: ConfigSection, key: str, *, select_layer: int, keep_class_token: bool) -> ClipVitSpec:
    """Return the tower whose folder or repository a key names."""
    name = section.values.get(key)
    if not isinstance(name, str) or not name:
        section.fault(key, "must name the folder of a CLIP tower")
        name = "clip-vit-large-patch14-336"
    return read_clip(
        _config_of(section, key, name), select_layer=select_layer, keep_class_token=keep_class_token
    )


def read_clip(section: ConfigSection, *, select_layer: int, keep_class_token: bool) -> ClipVitSpec:
    """Return the tower of a CLIPVisionConfig; absent keys take the defaults of that class."""
    num_layers = section.integer("num_hidden_layers", 12)
    if not -num_layers - 1 <= select_layer <= num_layers:
        section.fault("num_hidden_layers", f"must cover the layer that features are taken of, {select_layer}")
        select_layer = -1
    hidden, num_heads = section.integer("hidden_size", 768), section.integer("num_attention_heads", 12)
    if hidden % num_heads:
        section.fault("num_attention_heads", f"must divide hidden_size, {hidden}")
    image, patch = section.integer("image_size", 224), section.integer("patch_size", 32)
    if image % patch:
        section.fault("patch_size", f"must divide image_size, {image}")
    return ClipVitSpec(
        image=image,
        patch=patch,
        hidden=hidden,
        num_layers=num_layers,
        num_heads=num_heads,
        ffn=section.integer("intermediate_size", 3072),
        norm_eps=section.number("layer_norm_eps", 1e-5),
        activation=section.choice("hidden_act", ACTIVATIONS, "quick_gelu"),
        select_layer=select_layer,
        keep_class_token=keep_class_token,
    )


def _config_of(section: ConfigSection, key: str, name: str) -> ConfigSection:
    folder = None if section.folder is None else companion_folder(section.folder, name)
    if folder is not None:
        found = section.beside(str(folder / "config.json"))
        if found is not None:
            return found.nested("vision_config") if found.values.get("model_type") == "clip" else found
    last = PurePosixPath(name).name
    if last not in BY_NAME:
        known = ", ".join(f"`{known}`" for known in sorted(BY_NAME))
        section.fault(
            key, f"must be a folder with a config.json in or beside the checkpoint, or one of {known}"
        )
    return section.made(key, BY_NAME.get(last, LARGE_336))
