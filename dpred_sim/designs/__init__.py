"""Designs: how a tile spends cycles on a layer. One file each, found by scanning this folder."""
