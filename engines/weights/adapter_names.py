"""How PEFT names what a LoRA adapter holds, and the layers that one may change."""

import re

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = re.compile(r"base_model\.model\.(.+)\.lora_(A|B)\.weight")
# Our names of what an adapter may change: linear layers of a decoder's attention and FFN.
TARGETS = re.compile(r"decoder\.layers\.\d+\.(qkv|o|gate_up|down)\.weight")
