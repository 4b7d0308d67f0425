"""The numbers people can trust: speed, memory, traffic, quality and fidelity of this project, measured here."""
