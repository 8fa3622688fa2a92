"""No file of the repository holds unfinished work or the traces of one machine; tests do not sleep."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.meta.layering import ROOT
from tests.meta.text import MAX_LINES, length_problems, phrase_problems, sleep_problems, text_problems


def repository_files() -> list[Path]:
    """What git tracks, and what it would track; nothing outside a git work tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()})


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git work tree")
    found = {}
    for path in repository_files():
        try:
            found[str(path.relative_to(ROOT))] = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or the like
    return found


def test_the_listing_has_this_file(texts: dict[str, str]) -> None:
    assert "tests/meta/test_text.py" in texts


def test_no_forbidden_text(texts: dict[str, str]) -> None:
    problems = [f"{name}: {problem}" for name, text in texts.items() for problem in text_problems(text)]
    assert not problems, "\n".join(problems)


def test_all_is_told_in_plain_words(texts: dict[str, str]) -> None:
    problems = [
        f"{name}: {problem}"
        for name, text in texts.items()
        if not name.startswith("tests/")
        for problem in phrase_problems(text)
    ]
    assert not problems, "\n".join(problems)


def test_no_python_file_is_too_long(texts: dict[str, str]) -> None:
    problems = [
        f"{name}: {problem}"
        for name, text in texts.items()
        if name.endswith(".py")
        for problem in length_problems(text)
    ]
    assert not problems, "\n".join(problems)


def test_no_test_sleeps(texts: dict[str, str]) -> None:
    problems = [
        f"{name}: {problem}"
        for name, text in texts.items()
        if name.startswith("tests/") and name.endswith(".py")
        for problem in sleep_problems(text)
    ]
    assert not problems, "\n".join(problems)


# ------------------------------------------------------------------------- the checks can fail


@pytest.mark.parametrize(
    "text",
    [
        "# TO" + "DO: later",
        "a\nb  # FIX" + "ME",
        "X" + "XX",
        'open("/wo' + 'rk/main/x")',
        "cd /ro" + "ot/.cache",
        "see /home/" + "someone/notes",
        "index-url = https://py" + "pi.org/simple",
        "deb http://deb.deb" + "ian.org/debian",
    ],
)
def test_forbidden_text_is_found(text: str) -> None:
    assert len(text_problems(text)) == 1


@pytest.mark.parametrize("text", ["todos.txt", "the root / of it", "./work/x", "a/root/b", "spec/work/"])
def test_innocent_text_passes(text: str) -> None:
    assert text_problems(text) == []


@pytest.mark.parametrize(
    "text",
    [
        '    """The same for items of streams."""',
        "    #: The same of the others.",
        "it ends with whoever asks",
        "it waits for ever",
        "which is had with that",
        "to look is dear",
        "freed as ever",
    ],
)
def test_phrases_to_read_twice_are_found(text: str) -> None:
    assert len(phrase_problems(f"fine\n{text}\n")) == 1


@pytest.mark.parametrize("text", ["it is the same for all", "forever", "the dearest", "as every other"])
def test_plain_phrases_pass(text: str) -> None:
    assert phrase_problems(text) == []


def test_long_file_is_found() -> None:
    assert length_problems("x = 1\n" * MAX_LINES) == []
    assert length_problems("x = 1\n" * (MAX_LINES + 1))


@pytest.mark.parametrize(
    "source",
    [
        "import time\ntime.sleep(1)",
        "import time\ntime.sleep(delay)",
        "from time import sleep as nap\nnap(0.1)",
        "import trio\nasync def test():\n    await trio.sleep(0.5)",
        "import trio\nasync def test():\n    await trio.sleep(0.5)  # noqa: X1",
        "import time\ndef test(autojump_clock):\n    time.sleep(1)",
        "import asyncio\nasync def test():\n    await asyncio.sleep(1)",
    ],
)
def test_sleep_is_found(source: str) -> None:
    assert len(sleep_problems(source)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "import trio\nasync def test():\n    await trio.sleep(0)",
        "import trio\nasync def test(autojump_clock):\n    await trio.sleep(60)",
        "import trio\nasync def test():\n    await trio.sleep(1)  # the kernel's timer has no fake",
        "import time\n# the other process has no clock of ours\ntime.sleep(0.1)",
        "object().sleep(1)",
    ],
)
def test_sleep_with_a_reason_passes(source: str) -> None:
    assert sleep_problems(source) == []
