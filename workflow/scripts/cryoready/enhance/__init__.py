"""From a map to its enhanced map."""
