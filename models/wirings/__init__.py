"""The rules that say which edges act (`registry`), and how they wire any network (`wire`)."""
