"""Tags at commas."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duplex_services.registration._rules._tags import combine_tags, split_tags


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("", []),
        ("foobar", ["foobar"]),
        ("foo,bar", ["foo", "bar"]),
        (r"foo\,bar", ["foo,bar"]),
        (r"foo,bar\,baz", ["foo", "bar,baz"]),
        (r"\,foobar\,", [",foobar,"]),
        (",,,,foo,,,bar,,,", ["foo", "bar"]),
        (",,,,", []),
        (r",,\,,", [","]),
        (" a , b ", [" a ", " b "]),
        (r"a\\,b", ["a\\,b"]),
        (r"a\,,b", ["a,", "b"]),
        (r"a\b", [r"a\b"]),
    ],
)
def test_tags_of_a_text(text: str, tags: list[str]) -> None:
    assert split_tags(text) == tags


@given(st.lists(st.text("ab,é ", min_size=1), max_size=5))
def test_escaped_tags_come_back(tags: list[str]) -> None:
    assert split_tags(",".join(tag.replace(",", r"\,") for tag in tags)) == tags


def test_each_tag_comes_once_and_in_order_unless_as_registrator_has_it() -> None:
    assert combine_tags("b,a,b", "c,a", "udp", compat=False) == ("b", "a", "c", "udp")
    assert combine_tags("b,a,b", "c,a", "udp", compat=True) == ("b", "a", "b", "a", "c", "udp")
