"""Services that are followed: what says where they are is asked, and links are made and left accordingly."""

from __future__ import annotations

from duplex.client.following._connections import Connections as Connections
from duplex.client.following._named import Named as Named
from duplex.client.following._once import ask_once as ask_once
from duplex.client.following._service import FollowedService as FollowedService

__all__ = ("Connections", "FollowedService", "Named", "ask_once")
