from deployer.package_version import package_version


def test_a_package_tells_its_version_or_that_it_is_not_there() -> None:
    assert package_version("numpy") is not None
    assert package_version("no-such-package-of-ours") is None
