"""The whole model in float64 numpy, from the formulas of tests/golden/README.md and from nothing else.

It shares no code with `model` or `reference` (only the reading of checkpoint zips), keeps no caches, and recomputes
every step from the start: slow, short and easy to check by eye.
"""
