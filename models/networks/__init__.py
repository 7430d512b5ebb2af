"""The networks, a file a family, and the random graphs that some of them follow."""
