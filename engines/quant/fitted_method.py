"""A method with what a model leaves to choose: a size of groups that divides the inputs of every layer."""

from dataclasses import replace

from engines.errors import CheckpointError
from engines.quant.method import Method
from engines.spec import ModelSpec

GROUP_SIZES = (128, 64, 32, 16, 8)


def fitted(method: Method, spec: ModelSpec) -> Method:
    """Return the method with a group size where it has 0: the largest of 128 and less that fits every layer.

    Raises CheckpointError for a model that cannot be quantized so.
    """
    decoder = spec.decoder
    if decoder.kind != "llama_like" or decoder.plora_rank:
        raise CheckpointError(
            f"a decoder of {spec.family} has experts or additions for image rows: `deploy quantize` does "
            "decoders without; quantize another model"
        )
    if not method.is_4_bit:
        return method
    inputs = {"qkv": decoder.hidden, "o": decoder.num_heads * decoder.head_dim, "down": decoder.ffn}
    good = [size for size in GROUP_SIZES if all(count % size == 0 for count in inputs.values())]
    if not good:
        raise CheckpointError(
            f"inputs of {inputs}: must be multiples of 8 for 4-bit formats; use fp8 or int8"
        )
    if method.group_size == 0:
        return replace(method, group_size=good[0])
    bad = [f"{count} of {name}" for name, count in inputs.items() if count % (method.group_size or count)]
    if bad:
        raise CheckpointError(
            f"quantize.group_size={method.group_size}: does not divide the inputs {', '.join(bad)}; use "
            f"{' or '.join(map(str, good))}, or null for the first of them"
        )
    return method
