"""Zero-DCE.

You must provide ``weights/zero_dce.safetensors``.
"""

enhancer = dict(type="ZeroDCE", checkpoint="weights/zero_dce.safetensors")
