"""Agreement of maps with models and with each other, one metric per file."""
