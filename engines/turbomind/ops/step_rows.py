"""Launches `kernels/step_rows.cu`: a step into the memory of its graph, its tokens out to the host."""

from torch import Tensor

from engines.steps.decode_rows import PAGES
from engines.turbomind.gpu import Constants, Gpu

_THREADS = 128
_CONSTANTS: Constants = (("PAGES", PAGES),)


def lay_out_rows(
    gpu: Gpu,
    rows_BW: Tensor,
    last_ids_S: Tensor | None,
    *,
    size: int,
    vocab: int,
    tokens_5N: Tensor,
    kv_lens_N: Tensor,
    pages_NP: Tensor,
) -> None:
    """Write a step of B rows into the first `size` rows of a graph's memory, those behind B as empty ones.

    `rows_BW` is int32, a row of `engines/steps/decode_rows.py` each, in pinned memory of the host, which
    must stay as it is until the step is done. `last_ids_S` int64 are the tokens that the step before samples,
    `vocab` for a NaN; None where no row has a source.
    """
    num, words = rows_BW.shape
    assert num <= size <= len(kv_lens_N), "a graph of fewer rows than its step"
    assert words - PAGES <= pages_NP.shape[1], "a sequence with more pages than a graph has room for"
    kernel = gpu.kernel("step_rows.cu", "lay_out_rows", _CONSTANTS, "PPPPPiiiii", threads=_THREADS)
    kernel(
        gpu.stream(),
        (size, 1),
        rows_BW.data_ptr(),
        0 if last_ids_S is None else last_ids_S.data_ptr(),
        tokens_5N.data_ptr(),
        kv_lens_N.data_ptr(),
        pages_NP.data_ptr(),
        num,
        words,
        tokens_5N.stride(0),
        pages_NP.stride(0),
        vocab,
    )


def copy_ids(gpu: Gpu, ids_S: Tensor, to_S: Tensor) -> None:
    """Copy int64 tokens, to pinned memory of the host too: sooner there than by a copy engine."""
    num = len(ids_S)
    kernel = gpu.kernel("step_rows.cu", "copy_ids", _CONSTANTS, "PPi", threads=_THREADS)
    kernel(gpu.stream(), (-(-num // _THREADS), 1), ids_S.data_ptr(), to_S.data_ptr(), num)
