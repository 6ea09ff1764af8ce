"""Trained networks out of published packages: manifest, loaders, inputs, workloads."""
