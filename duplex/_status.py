"""Status codes of a call: OK and gRPC's sixteen, with the same names and numbers.

Source: the gRPC status code table (https://grpc.github.io/grpc/core/md_doc_statuscodes.html). Gateways
and monitoring tools know these numbers, so Duplex adds none of its own.
"""

from __future__ import annotations

import enum


@enum.unique
class StatusCode(enum.IntEnum):
    """The outcome of a call, as it travels in ``CLOSE``."""

    #: The call succeeded.
    OK = 0
    #: The caller cancelled the call, or the handler cancelled itself.
    CANCELLED = 1
    #: An error of unknown kind, for example a status number from a newer peer.
    UNKNOWN = 2
    #: The arguments are wrong whatever the state of the system.
    INVALID_ARGUMENT = 3
    #: The deadline passed before the call ended.
    DEADLINE_EXCEEDED = 4
    #: Something the call refers to does not exist.
    NOT_FOUND = 5
    #: Something the call would create exists already.
    ALREADY_EXISTS = 6
    #: The caller is known but may not do this.
    PERMISSION_DENIED = 7
    #: A quota, window or limit is used up.
    RESOURCE_EXHAUSTED = 8
    #: The system is not in the state that the call needs; retrying alone does not help.
    FAILED_PRECONDITION = 9
    #: The call lost a race, such as a failed compare-and-set; retry at a higher level.
    ABORTED = 10
    #: The call went past a valid range, for example beyond the end of a file.
    OUT_OF_RANGE = 11
    #: The service or the method does not exist at this peer.
    UNIMPLEMENTED = 12
    #: An invariant broke: a handler raised an unexpected exception, or a peer broke the protocol.
    INTERNAL = 13
    #: The peer cannot be reached or will not take the call now; retrying may help.
    UNAVAILABLE = 14
    #: Data was lost or corrupted beyond repair.
    DATA_LOSS = 15
    #: The caller did not say, or could not prove, who it is.
    UNAUTHENTICATED = 16
