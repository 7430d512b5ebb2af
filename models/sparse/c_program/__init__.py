"""Channel graphs as self-contained C99 programs."""
