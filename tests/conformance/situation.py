"""What a report needs where nothing was heard for long: who kept the event loop, and how far the peer was."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator
from typing import Any

import trio

import duplex
from duplex.transports.streams._bound import BoundPort
from tests.hangs import of_tasks


class Standstill(trio.abc.Instrument):
    """Notes the longest time for which one task kept the event loop.

    Attributes:
        longest: seconds.
        by: the task.
    """

    def __init__(self) -> None:
        self.longest = 0.0
        self.by = "nobody"
        self._began = time.monotonic()

    def __enter__(self) -> Standstill:
        trio.lowlevel.add_instrument(self)
        return self

    def __exit__(self, *_: object) -> None:
        trio.lowlevel.remove_instrument(self)

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """See :class:`trio.abc.Instrument`."""
        self._began = time.monotonic()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """See :class:`trio.abc.Instrument`."""
        seconds = time.monotonic() - self._began
        if seconds > self.longest:
            self.longest = seconds
            self.by = task.name

    def __str__(self) -> str:
        return f"the event loop was kept for {self.longest:.2f} s at most, by {self.by}"


def situation(peer: duplex.Peer) -> str:
    """Say who receives from each port of a peer, what waits on each of its links, and where all tasks are."""
    return "\n".join([*_of_ports(peer), *_of_links(peer), *_of_all_tasks()])


def _of_ports(peer: duplex.Peer) -> Iterator[str]:
    inside = peer._inside
    flusher = inside.flusher
    yield f"pass {flusher.passes}: {len(flusher.dirty)} links to transmit, {len(flusher._unsettled)} ports to ask"
    workers = inside.workers
    yield f"workers: {len(workers._idle)} idle, {workers._handed_over} calls handed over, {len(workers._arrived)} arrived"
    for lead in workers.leads.values():
        leader = "nobody" if lead.task is None else lead.task.name
        yield (
            f"port {lead.port.endpoint}: led by {leader}, vacant: {lead.is_vacant}, turn due: {lead._is_turn_due}, "
            f"behind: {len(lead.backlog)}, respites: {lead._respites}, {_of_turns(lead.turns)}"
        )


def _of_turns(turns: Any) -> str:
    is_bound = isinstance(turns, BoundPort)
    fd = turns._epoll.fileno() if is_bound else turns.connection.wire.fileno()
    ready = len(turns._ready) if is_bound else int(turns._is_ready)
    there = bool(select.select([fd], [], [], 0)[0])
    return f"ready: {ready}, waits: {turns._waiting._fd is not None}, woken: {turns._waiting._is_woken}, something is there: {there}"


def _of_links(peer: duplex.Peer) -> Iterator[str]:
    for link in peer.links:
        inside = link._inside
        backlog = inside.inbound.backlog
        waiting = (
            "nothing" if backlog is None else f"{len(backlog.messages)} messages, {len(backlog.jobs)} calls"
        )
        dirty = inside.outbound.is_dirty
        yield f"link to {link.peer_name}: waiting: {waiting}, to transmit: {dirty}, {link.statistics()}"


def _of_all_tasks() -> Iterator[str]:
    root = trio.lowlevel.current_root_task()
    assert root is not None
    yield from of_tasks(root.child_nurseries[-1])
