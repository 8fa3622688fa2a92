"""Duplex beside other RPC stacks, in one run on one machine: ``python -m benchmarks``."""
