"""Workloads: layers, networks, and where their tensors come from."""
