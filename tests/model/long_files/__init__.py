"""Clips of any length, from file to file."""
