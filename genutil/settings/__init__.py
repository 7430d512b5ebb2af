"""Settings: their types in words, app files, and the dialects of other projects."""
