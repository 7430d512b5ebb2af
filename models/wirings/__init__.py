"""The rules that say which edges act, and how they wire any network."""
