"""Which entries exist, where their files come from, and their preparation for training."""
