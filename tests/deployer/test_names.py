"""What `import deployer` gives, and what it costs."""

import subprocess
import sys

import deployer


def test_every_public_name_is_there_and_no_other() -> None:
    assert deployer.__all__ == sorted(deployer.__all__)
    assert {name: getattr(deployer, name).__name__ for name in deployer.__all__} == {
        name: name for name in deployer.__all__
    }
    assert set(deployer.__all__) <= set(dir(deployer))
    assert not hasattr(deployer, "pipelines")


def test_importing_the_package_imports_nothing_else() -> None:
    program = (
        "import sys; before = set(sys.modules); import deployer; "
        "sys.exit(repr(sorted(name for name in sys.modules.keys() - before "
        "if name.partition('.')[0] not in ('deployer', *sys.stdlib_module_names))))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


def test_the_pipeline_waits_with_torch_for_its_engine() -> None:
    program = (
        "import sys; from deployer import GenerationConfig, load_image, pipeline; "
        "sys.exit('torch' in sys.modules or 'fastapi' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
