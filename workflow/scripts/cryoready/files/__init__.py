"""Map and model files: the only importers of mrcfile and gemmi."""
