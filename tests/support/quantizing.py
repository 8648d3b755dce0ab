"""A way to quantize, for tests to change."""

from engines.quant.method import Method

FEW = ("quantize.num_samples=3", "quantize.held_out=1", "quantize.output=json")  # samples, as data

METHOD = Method(
    format="awq", group_size=16, search=True, symmetric=False, act_order=False, damping=0.01, vision=False
)
