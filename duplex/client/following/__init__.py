"""Services that are followed: what says where they are is asked, and links are made and left accordingly."""

from __future__ import annotations

from duplex.client.following._connections import Connections as Connections
from duplex.client.following._named import Named as Named
from duplex.client.following._service import FollowedService as FollowedService
from duplex.client.following._service import as_known as as_known
from duplex.client.following._service import closing as closing

__all__ = ("Connections", "FollowedService", "Named", "as_known", "closing")
