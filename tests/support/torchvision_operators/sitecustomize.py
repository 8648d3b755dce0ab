"""Lets torchvision be imported beside a torch that its compiled operators were not built for.

timm needs torchvision's Python alone. A folder of its own, so that only processes with it in PYTHONPATH run
it. It declares the two operators whose absence stops the import, and nothing where they are there.
"""

import torch

try:
    import torchvision  # noqa: F401
except RuntimeError:
    OPERATORS = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
