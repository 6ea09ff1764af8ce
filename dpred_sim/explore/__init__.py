"""What many runs say together: comparisons."""
