"""Trying any implementation of the protocol against its specification, over the raw wire.

``duplex conformance ENDPOINT`` is the command; the scenarios are data, in ``spec/scenarios``. What drives them
shares nothing with the rest of Duplex, so that it cannot share its mistakes either. :data:`service` is what an
implementation under test offers, for ``duplex serve duplex.conformance:service``.
"""

from __future__ import annotations

from duplex.conformance._service import make_service as make_service
from duplex.conformance._service import service as service

__all__ = ["make_service", "service"]
