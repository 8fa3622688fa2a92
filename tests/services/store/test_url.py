"""Which store a URL means, and what is said of one that means none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

import duplex
from duplex_services.store._url import StoreURL, parse_url


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("memory:", StoreURL("memory")),
        ("memory:shared", StoreURL("memory", (), "shared")),
        ("sqlite:///var/lib/x.db", StoreURL("sqlite", (), "/var/lib/x.db")),
        ("sqlite:x%20y.db", StoreURL("sqlite", (), "x y.db")),
        (
            "consul://a,b:81,c/p/q?token=t%26u",
            StoreURL("consul", ("a", "b:81", "c"), "/p/q", options={"token": "t&u"}),
        ),
        ("etcd://me:p%40ss@[::1]:2379/x", StoreURL("etcd", ("[::1]:2379",), "/x", "me", "p@ss")),
        ("duplex+ipc:///run/store.sock", StoreURL("duplex+ipc", (), "/run/store.sock")),
        ("etcd://a?x=1&y=a=b", StoreURL("etcd", ("a",), "", options={"x": "1", "y": "a=b"})),
    ],
)
def test_parts(url: str, parts: StoreURL) -> None:
    assert parse_url(url) == parts


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with what kind of store"),
        ("store.db", "begins with what kind of store"),
        ("Etcd://a", "begins with what kind of store"),
        ("/var/lib/x", "begins with what kind of store"),
        ("consul://a,,b/p", "empty host"),
        ("consul://a?x", "NAME=VALUE"),
        ("consul://a?=x", "NAME=VALUE"),
        ("consul://a?x=1&x=2", "there twice"),
        ("sqlite:a%ffb", "no UTF-8"),
        ("sqlite:a%00b", "control characters"),
    ],
)
def test_a_url_that_makes_no_sense(url: str, reason: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match=reason):
        parse_url(url)


@given(st.text(max_size=40))
def test_whatever_is_written_is_a_store_or_a_clear_error(text: str) -> None:
    for url in (text, f"etcd://{text}", f"sqlite:{text}"):
        with contextlib.suppress(duplex.ConfigurationError):
            assert parse_url(url).scheme


def test_secrets_are_not_shown() -> None:
    url = parse_url("etcd://me:secret@a/p?password=hidden")
    for text in (url.address, repr(url), str(url)):
        assert "secret" not in text
        assert "hidden" not in text
    assert url.address == "etcd://a/p"
    with pytest.raises(duplex.ConfigurationError) as refused:
        parse_url("etcd://me:secret@a,,b")
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "endpoints"),
    [
        ("etcd://a,b:1,[::1],[fe80::1]:2", [("a", 2379), ("b", 1), ("::1", 2379), ("fe80::1", 2)]),
        ("etcd://host.example", [("host.example", 2379)]),
    ],
)
def test_endpoints(url: str, endpoints: list[tuple[str, int]]) -> None:
    assert parse_url(url).endpoints(2379) == endpoints


@pytest.mark.parametrize("host", ["a:b", "a:0", "a:70000", "::1", "[::1", "a b", "[x]"])
def test_bad_endpoint(host: str) -> None:
    with pytest.raises(duplex.ConfigurationError, match="HOST:PORT"):
        StoreURL("etcd", (host,)).endpoints(2379)


def test_no_endpoint() -> None:
    with pytest.raises(duplex.ConfigurationError, match="has no host: etcd://HOST:2379/"):
        parse_url("etcd:///p").endpoints(2379)


def test_options_that_nobody_reads_are_refused() -> None:
    url = parse_url("etcd://a?tokn=1")
    with pytest.raises(duplex.ConfigurationError, match="no option 'tokn'; known: ca, token"):
        url.check_options({"token", "ca"})
    url.check_options({"tokn"})
