"""Cryo-EM maps made readable: pure functions over arrays, one folder per stage.

The package knows nothing of Snakemake. Units are Å unless a name says otherwise, array axes are
``(nz, ny, nx)`` and 3-vectors are in zyx order.
"""

__version__ = "0.1.0"
