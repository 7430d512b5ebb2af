"""What is kept: checkpoints, and files of graphs."""
