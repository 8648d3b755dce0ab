"""Every fixture on a GPU: float32 and bfloat16, by both op tables, all paths of `deploy parity`.

`.ci/gpu_families fixtures` splits it over processes. Figures go to the folder $OUT, if it is set.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from golden_fixtures import FOLDERS, REFUSED, written
from parity_runs import run

from engines.errors import KernelError

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(
    ("engine", "dtype"), [("pytorch", "float32"), ("pytorch", "bfloat16"), ("turbomind", "bfloat16")]
)
@pytest.mark.parametrize("name", FOLDERS)
def test_a_fixture_holds_on_cuda(name: str, engine: str, dtype: str, tmp_path: Path) -> None:
    words = [f"engine={engine}", "engine.device_type=cuda", f"engine.dtype={dtype}"]
    folder = written(name, tmp_path / "m")
    if engine == "turbomind" and name in REFUSED:
        with pytest.raises(KernelError, match=REFUSED[name]):
            run(folder, words)
        return
    code, printed = run(folder, [*words, "output=json"])
    print(printed)
    if "OUT" in os.environ:
        record = {"name": name, "engine": engine, "torch": torch.__version__, **json.loads(printed)}
        file = f"parity-{engine}-{dtype}-{name.replace('/', '-')}.json"
        (Path(os.environ["OUT"]) / file).write_text(json.dumps(record))
    assert code == 0, printed
