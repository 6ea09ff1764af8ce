"""Trace files of a run in formats of other tools, made from its record (docs/trace_files.md)."""
