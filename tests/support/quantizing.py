"""A way to quantize, for tests to change."""

from engines.quant.method import Method

METHOD = Method(
    format="awq", group_size=16, search=True, symmetric=False, act_order=False, damping=0.01, vision=False
)
