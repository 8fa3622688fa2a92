"""Which of the peers that offer a service gets a call: policies that decide, and know nothing of links.

Each is a function of what it is given, of the time, and of what it remembers of its own decisions. What is known of how
calls go, how many are under way and how long they take, is in meters, one for each service and peer.
"""

from __future__ import annotations

from duplex.client.balancing._base import Balancer as Balancer
from duplex.client.balancing._base import Candidate as Candidate
from duplex.client.balancing._base import CandidateT as CandidateT
from duplex.client.balancing._hash import Hashing as Hashing
from duplex.client.balancing._hash import Rings as Rings
from duplex.client.balancing._least_loaded import LeastLoaded as LeastLoaded
from duplex.client.balancing._meter import Meter as Meter
from duplex.client.balancing._meter import Meters as Meters
from duplex.client.balancing._metered import Metered as Metered
from duplex.client.balancing._pick_first import PickFirst as PickFirst
from duplex.client.balancing._round_robin import RoundRobin as RoundRobin

__all__ = (
    "Balancer",
    "Candidate",
    "CandidateT",
    "Hashing",
    "LeastLoaded",
    "Meter",
    "Metered",
    "Meters",
    "PickFirst",
    "Rings",
    "RoundRobin",
)
