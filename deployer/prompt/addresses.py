"""Which hosts and addresses a picture may be fetched from: none that only its own network can reach.

The networks are spelled out, since what `ipaddress` calls global differs between Python releases. They are
the entries of the IANA special-purpose registries (IPv4 and IPv6, as of 2024-12) that are not globally
reachable, multicast and reserved space; cloud metadata services (169.254.169.254, 100.100.100.200,
192.0.0.192, fd00:ec2::254) lie inside them.
"""

import ipaddress
from collections.abc import Sequence

_REFUSED_V4 = tuple(
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that is assigned as global unicast
_REFUSED_V6 = tuple(
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, carries an IPv4 address
        "3fff::/20",  # documentation
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # carries an IPv4 address in its last 32 bits


def is_public(address: str) -> bool:
    """Whether anybody on the internet can reach `address`, an IP address as `getaddrinfo` writes it."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif ip in _NAT64:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in _REFUSED_V4)
    return ip in _GLOBAL_V6 and not any(ip in network for network in _REFUSED_V6)


def is_allowed_domain(host: str, domains: Sequence[str] | None) -> bool:
    """Whether `host` is one of `domains` or a subdomain of one; None allows every host."""
    if domains is None:
        return True
    host = host.rstrip(".").lower()
    names = [domain.strip(".").lower() for domain in domains]
    return any(host == name or host.endswith(f".{name}") for name in names)
