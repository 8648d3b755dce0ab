from dataclasses import fields

import msgspec
import pytest
from tiny_engine import SPEC

from engines.spec import ModelSpec, VisionSpec
from engines.vision.kinds import ASSEMBLIES, PIXELS, PROJECTORS, TOWERS, decode_part
from engines.vision.parts import ImagePlan, TowerSpec, tower_name

EVERY = {"tower": TOWERS, "projector": PROJECTORS, "pixels": PIXELS, "assembly": ASSEMBLIES}


@pytest.mark.parametrize("part", EVERY)
def test_kinds_have_names_of_their_own(part: str) -> None:
    names = [field.default for kind in EVERY[part] for field in fields(kind) if field.name == "kind"]
    assert len(set(names)) == len(EVERY[part])


def test_a_spec_arrives_with_the_classes_that_it_had() -> None:
    frame = msgspec.msgpack.encode(SPEC)
    arrived = msgspec.msgpack.decode(frame, type=ModelSpec, dec_hook=decode_part)
    assert arrived == SPEC
    assert isinstance(arrived.vision, VisionSpec)
    assert type(arrived.vision.towers[0]) is type(SPEC.vision.towers[0])


def test_a_field_of_the_wrong_type_is_noticed_on_arrival() -> None:
    values = msgspec.to_builtins(SPEC.vision)
    values["towers"][0]["hidden"] = "wide"
    with pytest.raises(msgspec.ValidationError, match="hidden"):
        decode_part(TowerSpec, values["towers"][0])


def test_towers_are_named_in_order() -> None:
    assert [tower_name(index) for index in range(3)] == ["vision", "vision2", "vision3"]


def test_a_text_between_rows_counts_as_one_token() -> None:
    vision = SPEC.vision
    assert vision is not None
    plan = ImagePlan(width=16, height=16, grid=(1, 1), num_tiles=1)
    assert vision.num_tokens(plan) == 4
    assert vision.most_tokens == 5 * 4  # four tiles and a thumbnail
