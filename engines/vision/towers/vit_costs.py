"""Operations of a plain vision transformer, for the planner. Imports nothing."""


def vit_flops(*, tokens: int, layers: int, hidden: int, ffn: int) -> tuple[int, int]:
    """Return operations of the matrix products and of full attention, a multiply-add counted as two.

    A layer of width D and FFN F over L tokens: 2 L (4 D^2 + 2 D F) and 4 L^2 D.
    """
    linear = layers * 2 * tokens * (4 * hidden**2 + 2 * hidden * ffn)
    return linear, layers * 4 * tokens**2 * hidden
