"""Bicubic enlargement to twice the side, which brightens nothing: what CollaBA x2 is compared with."""

enhancer = dict(type="Upscale", scale=2)
