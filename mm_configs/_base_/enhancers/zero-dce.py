"""The enhancer Zero-DCE, a small network that predicts a tone curve for each pixel.

You must provide ``weights/zero_dce.safetensors``.
"""

enhancer = dict(type="ZeroDCE", checkpoint="weights/zero_dce.safetensors")
