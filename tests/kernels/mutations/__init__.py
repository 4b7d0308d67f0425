"""Faults planted in our own kernels, one at a time."""
