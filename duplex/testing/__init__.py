"""Helpers for testing what is built with Duplex, and what Duplex is built on."""

from __future__ import annotations

from duplex.testing._check_codec import check_codec as check_codec
from duplex.testing._check_transport import check_transport as check_transport
