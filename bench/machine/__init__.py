"""The machine at hand: environment, hardware, memory, streaming bandwidth."""
