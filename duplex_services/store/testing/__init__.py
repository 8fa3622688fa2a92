"""For authors of backends, and for users who want to know what a store guarantees.

::

    async def test_my_store() -> None:
        await check_store(lambda: open_store(MyBackend()))
"""

from __future__ import annotations

from duplex_services.store.testing._faults import Faults as Faults
from duplex_services.store.testing._linear import Operation as Operation
from duplex_services.store.testing._linear import explain_history as explain_history
from duplex_services.store.testing._run import CHECKS as CHECKS
from duplex_services.store.testing._run import Result as Result
from duplex_services.store.testing._run import check_store as check_store
