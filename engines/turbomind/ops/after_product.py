"""What kernels do with a product before it is written: the names of `kernels/device/after_product.cuh`."""

from typing import Literal

After = Literal["nothing", "gelu", "gelu_tanh", "quick_gelu", "add"]
ENUMERATORS: dict[After, str] = {
    "nothing": "kNothing",
    "gelu": "kGelu",
    "gelu_tanh": "kGeluTanh",
    "quick_gelu": "kQuickGelu",
    "add": "kAdd",
}
