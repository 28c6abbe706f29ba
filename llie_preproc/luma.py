"""The weights of red, green and blue in a grey value."""

BT601 = (0.299, 0.587, 0.114)
"""Weights of red, green and blue, in this order, in the luma of non-linear RGB by ITU-R BT.601."""
