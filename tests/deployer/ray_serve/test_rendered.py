"""Rendered configs of Ray Serve are taken by Ray's own schema and build our application; no cluster runs."""

from importlib.util import find_spec

import pytest
import yaml
from rendering import render_objects

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed: pip install -e '.[ray]'"),
    # Ray 2.60's own models, under pydantic 2.14.
    pytest.mark.filterwarnings("ignore:Using extra keyword arguments on `Field`"),
]


def test_serve_takes_the_file_of_the_target() -> None:
    words = ("+model=pocket_vl", "hardware=cpu", "target=ray_serve", "target.max_replicas=3")
    assert_served(render_objects(*words)["serve.yaml"])


def test_serve_takes_what_a_rayservice_holds() -> None:
    words = ("+model=internvl2_8b", "target=kubernetes", "target.form=rayservice", "engine.tp=2")
    assert_served(yaml.safe_load(render_objects(*words)["RayService"]["spec"]["serveConfigV2"]))


def assert_served(rendered: dict[str, object]) -> None:
    from ray.serve import Application
    from ray.serve.schema import ServeDeploySchema

    from deployer.ray_serve.application import build

    (application,) = ServeDeploySchema(**rendered).applications
    assert application.import_path == f"{build.__module__}:{build.__name__}"
    assert isinstance(build(application.args), Application)


def test_a_replica_reserves_all_gpus_of_its_ranks_on_one_node() -> None:
    from deployer.config import load_config
    from deployer.config.targets import RayServeTarget
    from deployer.ray_serve.application import engine_options

    words = [
        "+model=internvl2_8b",
        "engine=turbomind",
        "engine.tp=4",
        "target=ray_serve",
        "target.max_replicas=2",
    ]
    config = load_config([*words, "target.cpus_per_rank=2", "target.in_flight_per_replica=10"])
    assert isinstance(config.target, RayServeTarget)
    options = engine_options(config, config.target)
    assert options["placement_group_bundles"] == [{"CPU": 8.0, "GPU": 4.0}]
    assert options["ray_actor_options"] == {"num_cpus": 8.0, "num_gpus": 4.0}
    assert options["max_ongoing_requests"] == 10
    assert options["autoscaling_config"].target_ongoing_requests == 8.0
