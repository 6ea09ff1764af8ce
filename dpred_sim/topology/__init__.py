"""Systems from files: checked parameters on a graph."""
