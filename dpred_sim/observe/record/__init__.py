"""The record of a run: one file with everything that its components told (docs/record.md)."""
