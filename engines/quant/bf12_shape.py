"""Which matrices are whole tiles of 12-bit numbers, and the bytes that these take. Torch-free."""

TILE_OUTPUTS, TILE_INPUTS, TILE_BYTES = 16, 128, 3072


def takes_shape(outputs: int, inputs: int) -> bool:
    """Return whether a matrix is made of whole tiles."""
    return outputs > 0 and inputs > 0 and outputs % TILE_OUTPUTS == 0 and inputs % TILE_INPUTS == 0


def bf12_bytes(outputs: int, inputs: int) -> int:
    """Return the bytes of a matrix of whole tiles: these, and a factor of 2 bytes an output."""
    return outputs // TILE_OUTPUTS * (inputs // TILE_INPUTS) * TILE_BYTES + 2 * outputs
