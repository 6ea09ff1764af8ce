"""Components: SimPy processes and serial resources."""
