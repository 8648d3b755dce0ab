import pytest

from deployer.prompt.addresses import is_allowed_domain, is_public


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.9.9.9", "169.254.169.254",
        "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.168.1.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1",
        "2002:7f00:1::", "2001:0:4136:e378::1", "2001:db8::1", "64:ff9b:1::1", "100::1",
    ],
)  # fmt: skip
def test_an_address_of_this_machine_or_its_network_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


def test_a_domain_allows_itself_and_its_subdomains_only() -> None:
    assert is_allowed_domain("example.com", ["example.com"])
    assert is_allowed_domain("IMG.Example.com.", ["example.COM"])
    assert not is_allowed_domain("badexample.com", ["example.com"])
    assert not is_allowed_domain("example.com.evil.net", ["example.com"])
    assert is_allowed_domain("anything", None)
    assert not is_allowed_domain("anything", [])
