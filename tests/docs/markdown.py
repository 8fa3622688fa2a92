"""Reads as much Markdown as the tests of the documentation need: fenced blocks, headings and links."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]

_FENCE: Final = re.compile(r"^(?P<indent> *)```(?P<language>[\w-]*)\s*$")
_MARKER: Final = re.compile(r"^ *<!-- (?P<word>fragment|file): (?P<text>.+?) -->\s*$")
_HEADING: Final = re.compile(r"^#{1,6} +(?P<text>.+?)\s*$")
_CODE: Final = re.compile(r"`[^`]*`")
_LINK: Final = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: what stands after the opening fence.
        text: the lines within, each with its newline.
        line: the number of the first of them.
        fragment: why it cannot be run, from ``<!-- fragment: why -->`` just above it; else ``None``.
        file: the name to save it under, from ``<!-- file: name -->`` just above it; else ``None``.
    """

    language: str
    text: str
    line: int
    fragment: str | None = None
    file: str | None = None


def documents() -> list[Path]:
    """The README and everything under ``docs/``, and the list of the examples."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "examples" / "README.md"]


def name_of(document: Path) -> str:
    """The path from the root of the repository, to name tests by."""
    return document.relative_to(ROOT).as_posix()


def blocks(text: str) -> list[Block]:
    """Find all fenced blocks."""
    found = []
    lines = text.splitlines(keepends=True)
    index = 0
    while index < len(lines):
        fence = _FENCE.match(lines[index])
        if fence is None:
            index += 1
            continue
        first = index + 1
        last = first
        while last < len(lines) and lines[last].strip() != "```":
            last += 1
        if last == len(lines):
            raise ValueError(f"line {first}: the block is not closed")
        marker = _MARKER.match(lines[index - 1]) if index else None
        notes = {marker["word"]: marker["text"]} if marker is not None else {}
        indent = len(fence["indent"])
        body = "".join(line[indent:] if line.strip() else "\n" for line in lines[first:last])
        found.append(Block(fence["language"], body, first + 1, **notes))
        index = last + 1
    return found


def _prose(text: str) -> Iterator[str]:
    inside = False
    for line in text.splitlines():
        if line.strip().startswith("```"):
            inside = not inside
        elif not inside:
            yield line


def anchors(text: str) -> set[str]:
    """The anchors of all headings, as GitHub makes them."""
    found: set[str] = set()
    for line in _prose(text):
        heading = _HEADING.match(line)
        if heading is not None:
            words = re.sub(r"[^\w\- ]", "", heading["text"].lower())
            found.add(words.replace(" ", "-"))
    return found


def links(text: str) -> list[str]:
    """The targets of all links outside code."""
    return [match["target"] for line in _prose(text) for match in _LINK.finditer(_CODE.sub("", line))]


def broken_links(document: Path, text: str) -> list[str]:
    """The relative links that lead nowhere."""
    broken = []
    for target in links(text):
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (document.parent / path).resolve() if path else document
        if not place.exists():
            broken.append(f"{target}: there is no such file")
        elif anchor:
            there = text if place == document else place.read_text(encoding="utf-8")
            if anchor not in anchors(there):
                broken.append(f"{target}: there is no such heading")
    return broken
