"""Training: the loop, where it stands, learning rates, optimizers, and what wirings do meanwhile."""
