"""A tree of nodes that answers as ZooKeeper does, and loses answers, and questions, as often as a test wants.

Many sessions share one tree. What a session asks may arrive late, after its answer was given up: then it is done at
some later moment.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import trio
from kazoo import exceptions

from duplex_services.store._backends._zookeeper_session import Lost
from duplex_services.store._model import Unavailable


class Stat(NamedTuple):
    version: int
    czxid: int


class Node:
    def __init__(self, data: bytes, czxid: int) -> None:
        self.data = data
        self.version = 0
        self.czxid = czxid


class Tree:
    """Nodes by path, each with everything above it taken for granted."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.zxid = 0
        #: How often a transaction came with the version of a node that it has no more.
        self.bad_versions = 0

    def wipe(self) -> None:
        self.nodes.clear()

    def do(self, operations: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """Do all or nothing; the results are as kazoo gives them."""
        self.zxid += 1
        before = {path: (node, node.data, node.version) for path, node in self.nodes.items()}
        results: list[Any] = []
        for method, arguments in operations:
            try:
                results.append(getattr(self, method)(*arguments))
            except exceptions.ZookeeperError as error:
                self.bad_versions += isinstance(error, exceptions.BadVersionError)
                self.nodes.clear()
                for path, (node, data, version) in before.items():
                    node.data, node.version = data, version
                    self.nodes[path] = node
                rest = len(operations) - len(results) - 1
                rolled_back = [exceptions.RolledBackError() for _ in results]
                return [*rolled_back, error, *(exceptions.RuntimeInconsistency() for _ in range(rest))]
        return results

    def _node(self, path: str, version: int = -1) -> Node:
        if path not in self.nodes:
            raise exceptions.NoNodeError
        if version not in (-1, self.nodes[path].version):
            raise exceptions.BadVersionError
        return self.nodes[path]

    def create(self, path: str, data: bytes = b"") -> str:
        if path in self.nodes:
            raise exceptions.NodeExistsError
        self.nodes[path] = Node(data, self.zxid)
        return path

    def ensure_path(self, path: str) -> None:
        self.nodes.setdefault(path, Node(b"", self.zxid))

    def set_data(self, path: str, data: bytes, version: int = -1) -> Stat:
        node = self._node(path, version)
        node.data = data
        node.version += 1
        return Stat(node.version, node.czxid)

    def delete(self, path: str) -> bool:
        self._node(path)
        del self.nodes[path]
        return True

    def check(self, path: str, version: int) -> bool:
        self._node(path, version)
        return True

    def get(self, path: str, watch: object = None) -> tuple[bytes, Stat]:
        node = self._node(path)
        return node.data, Stat(node.version, node.czxid)

    def exists(self, path: str) -> Stat | None:
        return Stat(self.nodes[path].version, self.nodes[path].czxid) if path in self.nodes else None

    def sync(self, path: str) -> str:
        return path

    def get_children(self, path: str, watch: object = None) -> list[str]:
        return [name.removeprefix(f"{path}/") for name in self.nodes if name.startswith(f"{path}/")]


class Recorder:
    """What a transaction is built with."""

    def __init__(self) -> None:
        self.operations: list[tuple[str, tuple[Any, ...]]] = []

    def __getattr__(self, method: str) -> Callable[..., None]:
        return lambda *arguments: self.operations.append((method, arguments))


class TreeSession:
    """A session with a tree.

    Args:
        tree: which.
        seed: of what is lost and what is late.
        loss: the part of all questions whose answer is lost.
    """

    seconds = 2.0

    def __init__(self, tree: Tree, *, seed: int = 1, loss: float = 0.0) -> None:
        self.tree = tree
        self.loss = loss
        #: What becomes of the next transactions: "kept", "not sent", "lost", "done", "late"; else it is drawn by lot.
        self.fates: list[str] = []
        self._chance = random.Random(seed)
        self._late: list[list[tuple[str, tuple[Any, ...]]]] = []

    def soon(self, call: Callable[[], object]) -> None:
        call()

    def arrive(self) -> None:
        """Let all that is late be done."""
        late, self._late = self._late, []
        for operations in late:
            self.tree.do(operations)

    async def ask(self, method: str, *arguments: Any, **more: Any) -> Any:
        (answer,) = await self.ask_all([(method, arguments, more)])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask_all(self, questions: Sequence[tuple[str, tuple[Any, ...], dict[str, Any]]]) -> list[Any]:
        answers = []
        for method, arguments, _ in questions:
            await trio.sleep(self._chance.uniform(0, 0.001))  # others come between two questions
            (answer,) = self.tree.do([(method, arguments)])
            answers.append(answer)
        if self._chance.random() < self.loss:
            raise Lost("no answer")
        return answers

    async def transact(self, build: Callable[[Any], None]) -> list[Any]:
        recorder = Recorder()
        build(recorder)
        fate = self.fates.pop(0) if self.fates else "kept"
        if fate == "kept" and self._chance.random() < self.loss:
            fate = self._chance.choice(["not sent", "lost", "done", "late"])
        await trio.sleep(self._chance.uniform(0, 0.001))  # others come before it
        if fate == "not sent":
            raise Unavailable("there is no connection")
        if fate == "late":
            self._late.append(recorder.operations)
        elif self._chance.random() < 0.5:
            self.arrive()
        results = self.tree.do(recorder.operations) if fate in ("kept", "done") else []
        if fate != "kept":
            raise Lost("no answer")
        return results
