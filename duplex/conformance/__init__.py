"""Trying any implementation of the protocol against its specification, over the raw wire.

``duplex conformance ENDPOINT`` is the command; the scenarios are data, in ``spec/scenarios``. What drives them
shares nothing with the rest of Duplex, so that it cannot share its mistakes either. :data:`service` is what an
implementation under test offers, for ``duplex serve duplex.conformance:service``.
"""

from __future__ import annotations

from duplex.conformance._drive import Timing as Timing
from duplex.conformance._run import FAILED as FAILED
from duplex.conformance._run import NOT_TESTED as NOT_TESTED
from duplex.conformance._run import PASSED as PASSED
from duplex.conformance._run import NoPeerError as NoPeerError
from duplex.conformance._run import Offer as Offer
from duplex.conformance._run import Result as Result
from duplex.conformance._run import run as run
from duplex.conformance._scenarios import Scenario as Scenario
from duplex.conformance._scenarios import load as load
from duplex.conformance._scenarios import select as select
from duplex.conformance._service import make_service as make_service
from duplex.conformance._service import service as service
from duplex.conformance._values import ScenarioError as ScenarioError
from duplex.conformance._wire import EndpointError as EndpointError

__all__ = [
    "make_service",
    "service",
    "Scenario",
    "load",
    "select",
    "run",
    "Timing",
    "Offer",
    "Result",
    "PASSED",
    "FAILED",
    "NOT_TESTED",
    "EndpointError",
    "NoPeerError",
    "ScenarioError",
]
