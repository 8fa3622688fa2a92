"""Who may do what over HTTP."""

from __future__ import annotations

import ssl

import msgspec


class HttpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How the directory is served through HTTP.

    Attributes:
        write_token: who changes anything has to show it: ``Authorization: Bearer TOKEN``. Empty: nobody has to, which is only
            allowed at loopback addresses.
        read_token: who only reads may show this one instead; if it is set, who reads has to show one of them.
        anybody: listen at other addresses without a token, and answer to any name, since somebody else sees to who gets there.
        streams: of events, and questions that wait for a change, at a time from one address (/64 of IPv6); 0 is no limit.
        tls: has the certificate; ``None`` is plain HTTP.
    """

    write_token: str = ""
    read_token: str = ""
    anybody: bool = False
    streams: int = 256
    tls: ssl.SSLContext | None = None
