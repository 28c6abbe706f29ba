"""Frozen pretrained encoders whose features losses compare."""
