"""Rules for the text of files: what none of them may contain. Each check takes a text and gives problems."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from typing import Final

#: Python files longer than this hold more than one idea.
MAX_LINES: Final = 800

# The forbidden words are put together from parts, so that this file passes its own checks.
_UNFINISHED: Final = re.compile(r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME", "X" + "XX")) + r")\b")

_MACHINE_PATH: Final = re.compile(r"(?<![\w.~*-])/(?:work|root|home/\w+|Users/\w+)/")

_REGISTRY: Final = re.compile(
    r"(?<![\w-])(?:"
    + "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("files", "pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("registry", "yarnpkg", "com"),
            ("deb", "debian", "org"),
            ("proxy", "golang", "org"),
            ("static", "crates", "io"),
            ("index", "crates", "io"),
        )
    )
    + ")"
)

#: Modules whose ``sleep`` waits for real time to pass, unless a test has replaced the clock.
_SLEEPERS: Final = frozenset({"asyncio", "time", "trio"})

#: Fixtures of pytest-trio that replace trio's clock: a sleep there costs no time.
_VIRTUAL_CLOCKS: Final = frozenset({"autojump_clock", "mock_clock"})

#: Comments for tools give no reason.
_TOOL_COMMENT: Final = re.compile(r"#\s*(?:noqa|type:|pragma|pyright:|ruff:|mypy:)")


#: Turns of phrase that have to be read twice. Docstrings that refer to their neighbours mean nothing where these are not seen.
_UNPLAIN: Final = re.compile(
    r"(?:^\s*(?:#:? |\"\"\")|\. |: )The same (?:for|of)\b|\bwhoever\b|\bfor ever\b|\bis had with\b|\bdear\b|\bas ever\b",
    re.IGNORECASE,
)


def phrase_problems(text: str) -> list[str]:
    """What could be said in plainer words."""
    return [
        f"line {number}: {match.group()!r} can be said in plainer words"
        for number, line in enumerate(text.splitlines(), 1)
        if (match := _UNPLAIN.search(line)) is not None
    ]


def text_problems(text: str) -> list[str]:
    """Unfinished work, paths of one machine, and hosts of package registries."""
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        for what, pattern in (
            ("unfinished work", _UNFINISHED),
            ("a path of one machine", _MACHINE_PATH),
            ("a package registry's host", _REGISTRY),
        ):
            match = pattern.search(line)
            if match is not None:
                found.append(f"line {number}: {match.group()!r} is {what}")
    return found


def length_problems(source: str) -> list[str]:
    """A Python file that is too long."""
    count = len(source.splitlines())
    return [f"{count} lines, more than {MAX_LINES}: split it"] if count > MAX_LINES else []


def sleep_problems(source: str) -> list[str]:
    """Sleeps in a test without a reason.

    ``trio.sleep(0)`` is a checkpoint and passes, as does a sleep of trio in a function whose clock is virtual,
    and any sleep with a comment on its line or on the lines just above it.
    """
    if "sleep" not in source:
        return []
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in _SLEEPERS
        for alias in node.names
        if alias.name == "sleep"
    }
    commented = _commented_lines(source)
    found = []
    for call, virtual in _calls(tree, virtual=False):
        module = _sleeps(call, imported)
        if module is None or (virtual and module == "trio"):
            continue
        argument = call.args[0] if call.args else None
        if module != "time" and not (isinstance(argument, ast.Constant) and argument.value != 0):
            continue
        first, last = call.lineno, call.end_lineno or call.lineno
        if not commented.intersection(range(first - 1, last + 1)):
            found.append(f"line {first}: {module}.sleep without a comment that says why")
    return found


def _calls(node: ast.AST, *, virtual: bool) -> Iterator[tuple[ast.Call, bool]]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        names = {arg.arg for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
        virtual = virtual or bool(names & _VIRTUAL_CLOCKS)
    if isinstance(node, ast.Call):
        yield node, virtual
    for child in ast.iter_child_nodes(node):
        yield from _calls(child, virtual=virtual)


def _sleeps(call: ast.Call, imported: dict[str, str]) -> str | None:
    function = call.func
    if isinstance(function, ast.Name):
        return imported.get(function.id)
    if (
        isinstance(function, ast.Attribute)
        and function.attr == "sleep"
        and isinstance(function.value, ast.Name)
    ):
        return function.value.id if function.value.id in _SLEEPERS else None
    return None


def _commented_lines(source: str) -> set[int]:
    return {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
        and token.string.strip("# ")
        and not _TOOL_COMMENT.match(token.string)
    }
