"""Helpers for testing what is built with Duplex, and what Duplex is built on."""

from __future__ import annotations

# After this, what is raised says that it lives in ``duplex``.
from duplex import _public as _public
from duplex.testing._check_codec import check_codec as check_codec
from duplex.testing._check_transport import check_transport as check_transport
