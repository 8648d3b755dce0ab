"""`deploy doctor`: what this machine has for a deployment, what is missing, and how to get it.

Without a deployment nothing but torch is required; with one (`+model=x ...`) its engine, its extras, its
port, its memory for pictures and its checkpoint are. Exit code 1 where something required is missing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from deployer.config.load import load_config
from deployer.config.schema import DeployConfig
from deployer.doctor.devices import device_findings
from deployer.doctor.network import checkpoint_findings, port_findings
from deployer.doctor.software import package_findings, program_findings
from deployer.doctor.storage import disk_findings, shared_memory_findings
from deployer.errors import EXIT_MISSING, EXIT_OK
from deployer.output import take_output
from deployer.recipes.findings import Finding, has_errors, print_findings


def run(words: Sequence[str], config_dirs: Sequence[Path]) -> int:
    """Check and print. Raises ConfigError for a deployment that does not hold."""
    output, words = take_output(words)
    config = load_config(words, config_dirs=config_dirs) if words else None
    findings = list(diagnose(config))
    lacking = [finding.part for finding in findings if finding.level == "error"]
    what = f"`{config.model.name}`" if config is not None else "an engine"
    verdict = (
        f"missing for {what}: {', '.join(lacking)}" if lacking else f"nothing that {what} needs is missing"
    )
    print_findings(findings, verdict, output=output)
    return EXIT_MISSING if has_errors(findings) else EXIT_OK


def diagnose(config: DeployConfig | None) -> Iterator[Finding]:
    """Yield every finding about this machine."""
    yield from package_findings(config)
    yield from device_findings(config.engine if config is not None else None)
    yield from shared_memory_findings(config)
    yield from disk_findings(config)
    if config is not None:
        yield from program_findings(config.target)
        yield from port_findings(config.server)
        yield from checkpoint_findings(config.model)
