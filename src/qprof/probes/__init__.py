"""Sensors: clocks, memory, machine, usage. What is not there reads `None`, with the reason."""
