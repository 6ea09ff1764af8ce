"""Codecs: how values become bits."""
