"""Integer tensors, the widths of their groups, quantisation and synthetic values."""
