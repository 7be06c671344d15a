"""Addresses and links that pages must not be fetched from."""

from __future__ import annotations

import pytest

from r1.serving.search.addresses import check_addresses, check_link, is_public
from r1.serving.search.results import SearchError

PUBLIC = (
    *("93.184.215.14", "8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.63.255.255"),
    *("2606:2800:21f:cb07:6820:80da:af6b:8b2c", "2a00:1450:4001:82b::200e"),
)
NOT_PUBLIC = (
    *("127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200"),
    *("168.63.129.16", "192.0.0.192", "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.9"),
    *("192.88.99.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:8.8.8.8", "::127.0.0.1"),
    *("64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:7f00:1::", "2002:a9fe:a9fe::1"),
    *("2001:0:53aa:64c::1", "2001:10::1", "2001:db8::1", "3fff::1", "fc00::1", "fd00:ec2::254"),
    *("fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "100::1", "5f00::1", "not an address", ""),
)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_all_others(address: str) -> None:
    assert not is_public(address)
    with pytest.raises(SearchError, match="is not a public address"):
        check_addresses("host", ["8.8.8.8", address])  # mixed answers are refused whole


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("file:///etc/passwd", "file: only http"),
        ("ftp://example.com/", "ftp: only http"),
        ("gopher://example.com:70/_x", "gopher: only http"),
        ("javascript:alert(1)", "javascript: only http"),
        ("data:text/html,x", "data: only http"),
        ("//example.com/", "no scheme: only http"),
        ("example.com", "no scheme: only http"),
        ("", "no scheme: only http"),
        ("http:///path", "names no host"),
        ("http://", "names no host"),
        ("http://user:secret@example.com/", "carries a user name"),
        ("http://example.com@127.0.0.1/", "carries a user name"),
        ("http://example.com:22/", "port 22"),
        ("https://example.com:8443/", "port 8443"),
        ("http://example.com:99999/", "not a link|port 99999"),
        ("http://example.com:x/", "not a link"),
        ("http://[::1", "not a link"),
        ("http://exa mple.com/", "not a link"),
        ("http://example.com/\r\nHost: x", "not a link"),
        ("http://example.com/" + "a" * 2048, "more than 2048 characters"),
    ],
)
def test_links_that_are_not_followed(url: str, reason: str) -> None:
    with pytest.raises(SearchError, match=reason):
        check_link(url)


def test_links_that_are_followed() -> None:
    target = check_link("https://例え.テスト/path?q=1#part")
    assert (target.host, target.port) == ("xn--r8jz45g.xn--zckzah", 443)
    assert check_link("HTTP://Example.com:443/").port == 443
    assert check_link("http://[2606:2800::1]/").host == "2606:2800::1"
