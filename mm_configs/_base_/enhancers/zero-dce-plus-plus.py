"""The enhancer Zero-DCE++, a smaller network that predicts the curve of Zero-DCE on a small copy of the picture.

You must provide ``weights/zero_dce_plus_plus.safetensors``: ``llie convert`` writes it from the public file.
"""

enhancer = dict(type="ZeroDCEPlusPlus", checkpoint="weights/zero_dce_plus_plus.safetensors")
