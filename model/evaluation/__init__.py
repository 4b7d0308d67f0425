"""How good a model's edits are, and how far one model is from another; no clock. `bench` has the commands that show it.

`fidelity`: predictions, layers and weights against another model's. `quality`: what edits sound like. `seams`: whether
the ends of windows can be heard. `measures`: of how near one recording, set or prediction is to another.
"""
