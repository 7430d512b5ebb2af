"""Networks and wirings: pure torch and networkx, plain arguments, no configuration, no files, no data."""
