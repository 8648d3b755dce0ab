"""What this machine has and lacks: `deploy doctor`."""
