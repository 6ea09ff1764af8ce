"""Drawings of topologies: what is drawn (scene), where (placing), and how (picture, text)."""
