"""The command line: its words, its help, its commands, and several experiments of one file."""
