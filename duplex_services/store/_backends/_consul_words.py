"""What Consul's HTTP interface says, and the operations of its transactions. No I/O.

======================  ======================================================================================
``PREFIX/k/KEY``        a key and its value. Its flags are the lease's number, and below it a number by chance:
                        Consul takes a put of what is there already for none, and with it no revision would come
``PREFIX/l/LEASE``      there while the lease is: it is locked by a session, and deleted with that
``PREFIX/rev``          put by every commit: its ModifyIndex is the revision, also of deletes
======================  ======================================================================================
"""

from __future__ import annotations

import re
import secrets
import urllib.parse
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from duplex_services.store._backend import WRITERS, Listing
from duplex_services.store._model import Commit, Condition, Entry, Exists, Missing, Unchanged

#: Operations that one transaction may have, of 64 with the revision's own; and bytes of JSON.
LIMITS: Final = (63, 480 * 1024)
#: Bytes of an operation beside its key and its value.
_OPERATION_BYTES: Final = 160

_LEASE_SHIFT: Final = 32
_CHANCE_BITS: Final = 32

#: What is said of an operation that the token does not allow.
DENIED: Final = "Permission denied"
#: What a server says that knows of no other that could do it: it did nothing.
NO_LEADER: Final = "No cluster leader"


class KV(msgspec.Struct):
    Key: str
    Value: bytes | None = None
    Flags: int = 0
    CreateIndex: int = 0
    ModifyIndex: int = 0


class _Result(msgspec.Struct):
    KV: KV | None = None


class OpError(msgspec.Struct):
    OpIndex: int = 0
    What: str = ""


class Txn(msgspec.Struct):
    Results: list[_Result] | None = None
    Errors: list[OpError] | None = None

    @property
    def kvs(self) -> list[KV]:
        """What operations gave; without values, but for those that read."""
        return [result.KV for result in self.Results or () if result.KV is not None]


class Session(msgspec.Struct):
    ID: str


class Layout:
    """Where things are, and what they are called.

    Args:
        root: what comes before every key, with a slash.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.keys = f"{root}k/"
        self.leases = f"{root}l/"
        self.revision = f"{root}rev"

    def entry(self, kv: KV) -> Entry:
        """Return the entry of what is below ``k/``."""
        lease = kv.Flags >> _LEASE_SHIFT
        return Entry(
            kv.Key[len(self.keys) :],
            kv.Value or b"",
            kv.CreateIndex,
            kv.ModifyIndex,
            lease_name(lease) if lease else None,
        )

    def listing(self, kvs: Sequence[KV], sentinel: str, otherwise: int) -> tuple[Listing, frozenset[str]]:
        """Return what a list of everything has, and the leases that there are.

        Args:
            kvs: all of one moment.
            sentinel: the name of that key.
            otherwise: the revision of a store that was never used.
        """
        entries = []
        leases = set()
        revision = otherwise
        found = None
        for kv in kvs:
            if kv.Key.startswith(self.keys):
                entry = self.entry(kv)
                if entry.key == sentinel:
                    found = entry
                if not entry.key.startswith(WRITERS):
                    entries.append(entry)
            elif kv.Key.startswith(self.leases):
                leases.add(kv.Key[len(self.leases) :])
            elif kv.Key == self.revision:
                revision = kv.ModifyIndex
        return Listing(tuple(entries), revision, found), frozenset(leases)

    # ------------------------------------------------------------------------------------- transactions

    def operations(self, commit: Commit) -> list[dict[str, Any]]:
        """Return the operations of a commit, those of its conditions first, then that of its lease."""
        found = [self._condition(condition) for condition in commit.when]
        number = 0
        if commit.lease is not None:
            found.append(_operation("get", self.leases + commit.lease))
            number = lease_number(commit.lease)
        for key, value in commit.puts.items():
            flags = number << _LEASE_SHIFT | secrets.randbits(_CHANCE_BITS)
            found.append(_operation("set", self.keys + key, Value=value, Flags=flags))
        found += [_operation("delete", self.keys + key) for key in commit.deletes]
        return found

    def next_revision(self) -> dict[str, Any]:
        """Return the operation that makes a revision."""
        return _operation("set", self.revision, Value=b"", Flags=secrets.randbits(64))

    def _condition(self, condition: Condition) -> dict[str, Any]:
        key = self.keys + condition.key
        match condition:
            case Missing():
                return _operation("check-not-exists", key)
            case Exists():
                return _operation("get", key)
            case Unchanged():
                return _operation("check-index", key, Index=max(0, condition.modified))

    def new_lease(self, lease: str, session: str) -> list[dict[str, Any]]:
        """Return the operations that make a lease of a session."""
        key = self.leases + lease
        return [_operation("check-not-exists", key), _operation("lock", key, Value=b"", Session=session)]

    def read(self, prefix: str, sentinel: str) -> list[dict[str, Any]]:
        """Return the operations that read the keys under a prefix, the sentinel and the revision, of one moment."""
        proofs = [_operation("get", key) for key in self.proofs(sentinel)]
        return [_operation("get-tree", self.keys + prefix), *proofs]

    def proofs(self, sentinel: str) -> list[str]:
        """Return what :meth:`read` gives last, if it gives all that there is."""
        return [self.keys + sentinel, self.revision]


def _operation(verb: str, key: str, **more: Any) -> dict[str, Any]:
    return {"KV": {"Verb": verb, "Key": key, **more}}


def new_lease_name() -> str:
    """Return a name that no lease has."""
    return lease_name(secrets.randbelow(2**_LEASE_SHIFT - 1) + 1)


def lease_name(number: int) -> str:
    """Return the name of the lease of a number."""
    return f"{number:08x}"


def lease_number(name: str) -> int:
    """Return the number of the lease of a name; 0 if none can have it."""
    return int(name, 16) if re.fullmatch(r"[0-9a-f]{8}", name) else 0


def cost_of(commit: Commit) -> tuple[int, int]:
    """Return how many operations a commit is, and about how many bytes of JSON."""
    operations = len(commit.puts) + len(commit.deletes) + len(commit.when) + (commit.lease is not None)
    size = (
        sum(len(value) * 4 // 3 for value in commit.puts.values())
        + sum(len(key.encode()) for key in (*commit.puts, *commit.deletes))
        + operations * _OPERATION_BYTES
    )
    return operations, size


def blame(errors: Iterable[OpError], lengths: Sequence[int]) -> dict[int, OpError]:
    """Find out whose operations failed.

    Args:
        errors: whose ``OpIndex`` counts the operations of a whole transaction.
        lengths: of its parts.

    Returns:
        By the index of a part its first error, whose ``OpIndex`` counts within that part. What comes behind all parts is
        of another one.
    """
    found: dict[int, OpError] = {}
    for error in sorted(errors, key=lambda error: error.OpIndex):
        part, index = 0, error.OpIndex
        while part < len(lengths) and index >= lengths[part]:
            index -= lengths[part]
            part += 1
        found.setdefault(part, OpError(index, error.What))
    return found


def path_of(key: str) -> str:
    """Return the path of a key."""
    return f"/v1/kv/{urllib.parse.quote(key, safe='/')}"
