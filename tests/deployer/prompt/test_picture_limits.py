"""The most that a picture costs, by what the config and the kind of preprocessing say."""

from pathlib import Path

from prompt_setup import deploy_config, model_spec

from deployer.prompt.assemble import PromptBuilder
from deployer.prompt.picture_limits import PictureLimits


def test_the_limits_are_those_of_the_config(folder: Path, builder: PromptBuilder) -> None:
    own = builder.picture_limits
    assert own is not None and own.tile_tokens == 4
    fewer = PromptBuilder(deploy_config(vision={"max_tiles": 2}), model_spec(), folder).picture_limits
    # two tiles and a thumbnail, and a token before and behind them
    assert fewer == PictureLimits(max_tiles=3, max_tokens=12, tile_tokens=4)
    assert own.max_tiles > fewer.max_tiles
