"""Load and faults against `deploy` as it ships: what docs/load_and_faults.md prints."""
