"""This machine: environment, hardware, memory, streaming bandwidth."""
