"""Checking by a GET."""

from __future__ import annotations

import ssl
from typing import Final
from urllib.parse import urlsplit

from duplex_services._shared._http_client import Endpoint, HttpClient, HttpError
from duplex_services.discovery._model import Check
from duplex_services.discovery._rules._monitor import Result

#: Bytes of the body in which something is looked for.
_MOST_BODY: Final = 5120


async def probe(check: Check, target: str) -> Result:
    """Get a URL, and look at the status, and for a text at the beginning of the body. Certificates are not checked: a check asks
    whether somebody serves, not who. No redirect is followed."""
    url = urlsplit(target)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{target!r} is no URL to check: http://HOST:PORT/PATH")
    secure = url.scheme == "https"
    endpoint = Endpoint(url.hostname, url.port or (443 if secure else 80), _lax() if secure else None)
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    client = HttpClient([endpoint], connect_within=check.timeout, answer_within=check.timeout)
    headers = [("User-Agent", "duplex-discovery"), ("Connection", "close")]
    if check.host:
        headers.append(("Host", check.host))
    try:
        async with client.stream("GET", path, headers=headers) as answer:
            if answer.status != check.status:
                return Result("critical", f"{target}: status {answer.status}, not {check.status}")
            body = bytearray()
            wanted = check.contains.encode()
            while wanted and wanted not in body and len(body) < _MOST_BODY:
                chunk = await answer.chunk()
                if not chunk:
                    break
                body += chunk
            if wanted not in body[:_MOST_BODY]:
                return Result("critical", f"{target}: status {answer.status}, without {check.contains!r}")
            return Result("passing", f"{target}: status {answer.status}")
    except HttpError as error:
        return Result("critical", f"{target}: {error}")


def _lax() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
