"""Which library has which feature, found out by using it: ``python -m benchmarks.features``.

``docs/comparison.md`` has the table. A cell of it is either checked by a function of this package, which uses the real library and
tells what it found, or names the documentation that says so. The command runs the functions, and fails where the table says
something else.
"""
