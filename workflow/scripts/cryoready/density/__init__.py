"""Operations on density: resample, simulate, degrade, mask, normalise."""
