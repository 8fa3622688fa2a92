"""The directory over HTTP: discoverd's routes, and the same below ``/v1`` with what has come since."""
