"""Build a system, run it, check it, collect what it found."""
