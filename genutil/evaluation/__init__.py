"""Evaluation: of a network as it is, and of one that an engine runs."""
