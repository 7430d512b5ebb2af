"""Data sets, augmentation and loaders. Knows nothing of models."""
