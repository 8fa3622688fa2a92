"""One check of one instance, in each of the ways there are."""

from __future__ import annotations

from duplex_services.discovery._probes._run import probe as probe
