"""The 3D Swin-Conv-UNet and its weights on disk."""
