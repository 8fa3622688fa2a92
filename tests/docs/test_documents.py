"""The README and everything in ``docs/`` does what it says, and leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.docs.markdown import ROOT, blocks, broken_links, documents, links, name_of
from tests.docs.session import DocumentError, Session

DOCUMENTS: Final = {name_of(path): path for path in documents()}

#: Languages whose blocks are run; and those that are not: their content is checked elsewhere, or is not code.
RUN: Final = {"python", "output", "console"}
SHOWN: Final = {"", "text", "toml", "json", "make"}


def run(path: Path, directory: Path) -> None:
    with Session(directory, name_of(path)) as session:
        session.run(blocks(path.read_text(encoding="utf-8")))


@pytest.mark.slow
@pytest.mark.parametrize("name", DOCUMENTS)
def test_document_runs(name: str, tmp_path: Path) -> None:
    run(DOCUMENTS[name], tmp_path)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_languages_are_known(name: str) -> None:
    languages = {block.language for block in blocks(DOCUMENTS[name].read_text(encoding="utf-8"))}
    assert not languages - RUN - SHOWN


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_are_used(name: str) -> None:
    found = blocks(DOCUMENTS[name].read_text(encoding="utf-8"))
    text = "".join(block.text for block in found if block.language in RUN)
    for block in found:
        assert block.file is None or text.count(block.file.removesuffix(".py")) > 0


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    path = DOCUMENTS[name]
    assert broken_links(path, path.read_text(encoding="utf-8")) == []


def test_the_index_has_every_page() -> None:
    docs = ROOT / "docs"
    listed = {(docs / target).resolve() for target in links((docs / "README.md").read_text(encoding="utf-8"))}
    missing = [
        name_of(path)
        for folder in ("tutorial", "how-to", "coming-from")
        for path in sorted((docs / folder).glob("*.md"))
        if path not in listed
    ]
    assert missing == []


# -------------------------------------------------------------------------------- the checks can fail


def run_text(text: str, directory: Path) -> None:
    path = directory / "document.md"
    path.write_text(text, encoding="utf-8")
    with Session(directory, "document") as session:
        session.run(blocks(text))


def test_python_blocks_build_on_each_other(tmp_path: Path) -> None:
    run_text(
        """\
```python
import duplex

echo = duplex.Service("echo")

@echo.rpc
async def say(word: str) -> str:
    return word
```
```python
print(await client.service("echo").say("hello"))
```
```output
hel...
```
""",
        tmp_path,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```", "division by zero"),
        ("```python\nprint(1)\n```\n```output\n2\n```", "shown:"),
        ("```output\n2\n```", "without a python block"),
        ("<!-- fragment: it lacks a context -->\n```python\nreturn 1 +\n```", "invalid syntax"),
        ("```console\nhello\n```", "begins with a command"),
        ("```console\n$ make coffee\n```", "no such target"),
        ("```console\n$ echo hello\nhell\n```", "printed:"),
    ],
)
def test_a_false_document_fails(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(Exception, match=message) as caught:
        run_text(text, tmp_path)
    assert isinstance(caught.value, (DocumentError, ZeroDivisionError, SyntaxError))
    assert re.fullmatch(r"in the \w+ block at line \d", caught.value.__notes__[-1])


def test_broken_links_are_found(tmp_path: Path) -> None:
    document = tmp_path / "a.md"
    text = "# One two\n[a](#one-two) [b](#three) [c](gone.md) [d](a.md#one-two) [e](https://example.org/x) `[f](g)`\n"
    document.write_text(text, encoding="utf-8")
    assert broken_links(document, text) == [
        "#three: there is no such heading",
        "gone.md: there is no such file",
    ]
