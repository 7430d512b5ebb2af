"""Published weights: what there is, where it lies, and readers of foreign checkpoints."""
