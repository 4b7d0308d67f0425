"""Measurements of this project on this machine: speed, memory, traffic, quality and fidelity."""
