"""LMDeploy command lines, read as overrides of ours."""
