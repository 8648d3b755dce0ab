"""Load and faults against `deploy` as it ships: what docs/benchmarks.md prints under "Load and faults"."""
