"""Bicubic enlargement to twice the height and width. It brightens nothing; it is the baseline for CollaBA x2."""

enhancer = dict(type="Upscale", scale=2)
