"""A class that holds or does much says why: else it is taken apart."""

from __future__ import annotations

import pytest

from tests.meta.layering import ROOT, python_files
from tests.meta.sizes import MOST_ATTRIBUTES, MOST_METHODS, REASON, large_classes


@pytest.mark.parametrize("folder", ["duplex", "duplex_services"])
def test_large_classes_say_why(folder: str) -> None:
    unsaid = [
        f"{path.relative_to(ROOT)}: {name} has {attributes} attributes and {methods} methods (at most {MOST_ATTRIBUTES} "
        f"and {MOST_METHODS}): take it apart, or begin the comment above it with {REASON!r}"
        for path in python_files(folder)
        for name, attributes, methods, has_reason in large_classes(path.read_text(encoding="utf-8"))
        if not has_reason
    ]
    assert not unsaid, "\n".join(unsaid)


def test_no_small_class_has_a_reason() -> None:
    """What has become small is no longer said to be large."""
    for path in python_files("duplex"):
        source = path.read_text(encoding="utf-8")
        large = [name for name, _, _, has_reason in large_classes(source) if has_reason]
        assert source.count(REASON) == len(large), path


# ------------------------------------------------------------------------- the check can fail


def invented(above: str, attributes: int, methods: int) -> str:
    """A class of some size, with something above it."""
    body = "".join(f"        self.a{number} = 0\n" for number in range(attributes))
    rest = "".join(f"    def m{number}(self): ...\n" for number in range(methods - 1))
    return f"{above}@final\nclass Sample:\n    def __init__(self):\n        pass\n{body}{rest}"


@pytest.mark.parametrize(
    ("above", "attributes", "methods", "found"),
    [
        ("", 20, 30, []),
        ("", 21, 1, [("Sample", 21, 1, False)]),
        ("", 0, 31, [("Sample", 0, 31, False)]),
        ("# Large because it is\n# what it is.\n", 21, 1, [("Sample", 21, 1, True)]),
        ("# Large because\n", 21, 1, [("Sample", 21, 1, False)]),
        ("# Large because of that.\n\n", 21, 1, [("Sample", 21, 1, False)]),
        ("# It is large.\n", 21, 1, [("Sample", 21, 1, False)]),
    ],
)
def test_sizes_are_counted(
    above: str, attributes: int, methods: int, found: list[tuple[str, int, int, bool]]
) -> None:
    assert list(large_classes(invented(above, attributes, methods))) == found


def test_declared_attributes_count() -> None:
    fields = "".join(f"    f{number}: int\n" for number in range(21))
    assert list(large_classes(f"class Sample:\n{fields}")) == [("Sample", 21, 0, False)]
    assert list(large_classes(f"class Sample(Held, Protocol[T]):\n{fields}")) == []
