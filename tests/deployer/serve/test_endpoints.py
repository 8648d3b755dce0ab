"""The list of paths against the routes of the application."""

from pathlib import Path

import pytest
from fake_engine import FakeEngine
from serving import make_service

from deployer.serve.app import ROUTES, create_app
from deployer.serve.endpoints import ENDPOINTS, is_served


def test_the_paths_of_all_routes_are_served(engine: FakeEngine, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("an operator's key\n")
    service = make_service(engine, admin_keys_file=str(tmp_path / "keys"))
    own = [getattr(route, "path", "") for route in create_app(service).routes]
    paths = {getattr(route, "path", "") for routes in ROUTES for route in routes(service).routes}
    paths |= {f"{path}/x" if path == "/static-offline-docs" else path for path in own if path}
    assert paths >= {*ENDPOINTS, "/", "/openapi.json", "/admin/drain"}
    assert {path for path in paths if path and not is_served(path, admin=True)} == set()
    assert not is_served("/admin/drain", admin=False)


@pytest.mark.parametrize(
    "path", ["/v1", "/v1/models/", "/health/", "/admin", "/docs2", "/v1/responses/a/b/c"]
)
def test_what_is_near_a_path_is_not_served(path: str) -> None:
    assert not is_served(path, admin=True)
