"""The pages of the reference that come from the code are as the code is."""

from __future__ import annotations

import pytest

from tests.docs.reference import FOLDER, pages


@pytest.mark.slow
async def test_pages_are_as_the_code_is() -> None:
    for name, text in (await pages()).items():
        there = (FOLDER / name).read_text(encoding="utf-8")
        assert there == text, f"{name} is not as the code is: run python -m tests.docs.reference"


@pytest.mark.slow
async def test_pages_have_all_there_is() -> None:
    found = await pages()
    assert "`register(service: str, registration: Registration, ttl: float = 10.0)" in found["discovery.md"]
    assert "| `--dns-recursor ADDRESS` |" in found["discovery.md"]
    assert "### `duplex discovery run`" in found["discovery.md"]
    assert "Also called `duplex discovery serve`" in found["discovery.md"]
    assert "- `weight`: how much work it wants beside the others, from 0 to 65535." in found["discovery.md"]
    assert "`DUPLEX_STORE_BIND`" in found["store.md"]
