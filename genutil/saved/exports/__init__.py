"""Trained networks as files for other programs, a module each form."""
