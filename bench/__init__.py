"""The figures of docs/benchmarks.md, measured on the machine at hand: ``python -m bench``. Needs root.

Not a test: a figure that misses its goal is printed as missed, and nothing fails.
"""
