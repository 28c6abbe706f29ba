"""The weights by which one grey value stands for red, green and blue."""

BT601 = (0.299, 0.587, 0.114)
"""ITU-R BT.601's luma of non-linear RGB, in this order: the sum of red, green and blue, each times its weight."""
