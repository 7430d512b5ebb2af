"""The page of a run: one self-contained HTML file with its curves, its costs and its wiring to look around in."""
