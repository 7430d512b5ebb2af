"""Processes, devices, signals, files and randomness."""
