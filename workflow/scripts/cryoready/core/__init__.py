"""Containers, Fourier grids, box arithmetic and errors: everything else stands on these."""
