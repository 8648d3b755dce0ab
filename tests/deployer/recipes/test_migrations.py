"""One step a schema, on plain mappings."""

from typing import Any

from deployer.config.recipe_file import SCHEMA
from deployer.recipes.migrations import STEPS, About, Values, add_block, migrate, schema_of

ABOUT = About(name="prod", description="Ours", hardware="h200")


def test_there_is_a_step_from_every_older_schema() -> None:
    assert sorted(STEPS) == list(range(SCHEMA))


def test_0_to_1_adds_the_block_and_touches_nothing_else() -> None:
    old: dict[str, Any] = {"defaults": ["deploy"], "server": {"port": 9000}}
    new = add_block(old, ABOUT)
    assert new["recipe"] == {
        "schema": 1,
        "name": "prod",
        "description": "Ours",
        "hardware": "h200",
        "version": "1",
        "tolerance": 0.5,
        "expected": None,
    }
    assert {key: value for key, value in new.items() if key != "recipe"} == old
    assert old == {"defaults": ["deploy"], "server": {"port": 9000}}


def test_steps_are_taken_in_their_order() -> None:
    def later(values: Values, about: About) -> Values:
        return {**values, "recipe": {**values["recipe"], "schema": 2, "owner": "ops"}}

    new = migrate({"defaults": []}, ABOUT, steps={**STEPS, 1: later}, target=2)
    assert schema_of(new) == 2
    assert (new["recipe"]["name"], new["recipe"]["owner"]) == ("prod", "ops")


def test_what_is_of_this_schema_stays_as_it_is() -> None:
    values = {"recipe": {"schema": SCHEMA}}
    assert migrate(values, ABOUT) is values
