"""The images that docs/docker/Dockerfile.* build."""


def default_image(*, on_gpu: bool) -> str:
    """Return the name under which the documents build the image."""
    return "vlm-deployer:cuda" if on_gpu else "vlm-deployer:cpu"
