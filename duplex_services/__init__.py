"""Services that make a set of peers into a system, each an ordinary Duplex service.

What lives here is built on the public names of :mod:`duplex` and on nothing else: whatever one of these
services does, yours can do too, and any of them can be called, scripted and replaced like your own.
"""
