"""Boxes, losses and the training loop."""
