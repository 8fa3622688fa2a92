"""Small faults that a source file can have: every place in it, with the text that makes the fault there."""

from __future__ import annotations

import ast
import hashlib
from typing import Final, NamedTuple

_COMPARISONS: Final[dict[type[ast.cmpop], type[ast.cmpop]]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
}
_NAMES: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_TYPES: Final = frozenset({"int", "str", "bytes", "float", "bool", "list", "dict"})
#: Calls whose loss nobody but a reader of logs sees.
_LOGGING: Final = frozenset({"debug", "info", "warning", "error", "exception", "log"})


class Mutant(NamedTuple):
    """One fault: the text between two offsets of a file's bytes is another."""

    path: str
    """The file, from the root of the project."""
    scope: str
    """The function or class that it is in, such as ``Link.close``; empty at the top of the file."""
    kind: str
    line: int
    begin: int
    end: int
    was: str
    becomes: str
    ordinal: int = 1
    """Which of those that are the same in this scope, from 1."""

    @property
    def key(self) -> str:
        """What stays the same when other parts of the file change."""
        which = f" ({self.ordinal})" if self.ordinal > 1 else ""
        return f"{self.path}:{self.scope}: {_flat(self.was)} -> {_flat(self.becomes)}{which}"

    def apply(self, source: bytes) -> bytes:
        """Return the file with the fault in it."""
        return source[: self.begin] + self.becomes.encode() + source[self.end :]


def _flat(text: str) -> str:
    return " ".join(text.split())


def rank(mutant: Mutant, seed: int) -> bytes:
    """Order mutants at random; the order of those that stay does not depend on those that come and go."""
    return hashlib.blake2b(f"{seed} {mutant.key}".encode(), digest_size=8).digest()


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Return all faults that this module knows to make in a file.

    Args:
        path: what to call the file.
        source: its contents.
    """
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    seen: dict[str, int] = {}
    for at, mutant in enumerate(finder.found):
        seen[mutant.key] = seen.get(mutant.key, 0) + 1
        finder.found[at] = mutant._replace(ordinal=seen[mutant.key])
    return finder.found


class _Finder(ast.NodeVisitor):
    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._scope: list[str] = []
        self.found: list[Mutant] = []
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def _add(self, kind: str, node: ast.expr | ast.stmt, becomes: ast.AST | str) -> None:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        begin = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        text = becomes if isinstance(becomes, str) else ast.unparse(becomes)
        if isinstance(node, ast.expr):
            # The text around it may bind tighter than the new expression does.
            text = f"({text})"
        was = self._source[begin:end].decode()
        self.found.append(Mutant(self._path, ".".join(self._scope), kind, node.lineno, begin, end, was, text))

    # ------------------------------------------------------------------------------- where not to look

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._scope.append(node.name)
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._scope.append(node.name)
        for statement in node.body:
            self.visit(statement)
        self._scope.pop()

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            if isinstance(node.target, ast.Attribute):
                self._drop(node)
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """An assertion that fails is a fault already."""

    # ------------------------------------------------------------------------------------- statements

    def _drop(self, node: ast.stmt) -> None:
        self._add("statement removed", node, "pass")

    def visit_Expr(self, node: ast.Expr) -> None:
        value = node.value.value if isinstance(node.value, ast.Await) else node.value
        if isinstance(value, ast.Constant):  # a docstring, or an ellipsis
            return
        call = value.func if isinstance(value, ast.Call) else None
        if isinstance(call, ast.Attribute) and call.attr in _LOGGING:
            return
        if isinstance(value, ast.Call):
            self._drop(node)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._drop(node)
        self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._drop(node)
        if (other := _ARITHMETIC.get(type(node.op))) is not None:
            self._add("arithmetic", node, ast.AugAssign(node.target, other(), node.value))
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._drop(node)

    def visit_Raise(self, node: ast.Raise) -> None:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        if isinstance(raised, ast.Name) and raised.id == "AssertionError":
            return
        self._drop(node)
        # The texts of errors are for people, and not for tests to repeat.

    def visit_Break(self, node: ast.Break) -> None:
        self._add("loop", node, "continue")

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add("loop", node, "break")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._drop(node)
            return
        if not (isinstance(node.value, ast.Constant) and node.value.value in (None, True, False)):
            self._add("result", node.value, "None")
        self.visit(node.value)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        first = node.body[0]
        if not isinstance(first, ast.Raise):
            self._add("exception let through", first, "raise")
        for statement in node.body:
            self.visit(statement)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_While(self, node: ast.While) -> None:
        if not isinstance(node.test, ast.Constant):
            self._condition(node.test)
        self.generic_visit(node)

    # ------------------------------------------------------------------------------------ expressions

    def _condition(self, test: ast.expr) -> None:
        # Comparisons are turned round on their own.
        if not isinstance(test, ast.Compare):
            inner = test.operand if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) else None
            self._add("condition", test, inner or ast.UnaryOp(ast.Not(), test))

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._add("condition", node, ast.IfExp(node.test, node.orelse, node.body))
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            operators = [*node.ops]
            operators[at] = _COMPARISONS[type(operator)]()
            self._add("comparison", node, ast.Compare(node.left, operators, node.comparators))
            if isinstance(operator, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                opposite = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}
                operators = [*node.ops]
                operators[at] = opposite[type(operator)]()
                self._add("comparison", node, ast.Compare(node.left, operators, node.comparators))
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        self._add("and, or", node, ast.BoolOp(other, node.values))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        # Of types (`int | None`) and texts (`"%s" % x`) there is nothing to change.
        text = isinstance(node.left, ast.Constant) and isinstance(node.left.value, str)
        if (other := _ARITHMETIC.get(type(node.op))) is not None and not text and not _is_type(node):
            self._add("arithmetic", node, ast.BinOp(node.left, other(), node.right))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in _NAMES:
            self._add("call", node, ast.Call(ast.Name(_NAMES[node.func.id]), node.args, node.keywords))
        self.generic_visit(node)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        self.visit(node.value)
        if not isinstance(node.value, ast.Name) or not node.value.id[:1].isupper():
            self.visit(node.slice)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._add("constant", node, repr(not value))
        elif isinstance(value, int | float):
            self._add("constant", node, repr(value + 1))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """The texts for people are not for tests to repeat."""


def _is_type(node: ast.BinOp) -> bool:
    return isinstance(node.op, ast.BitOr) and any(
        (isinstance(side, ast.Constant) and side.value is None)
        or (isinstance(side, ast.Name) and (side.id[:1].isupper() or side.id in _TYPES))
        for side in (node.left, node.right)
    )
