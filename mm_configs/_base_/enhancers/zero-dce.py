"""Zero-DCE.

``weights/zero_dce.safetensors`` is yours to provide.
"""

enhancer = dict(type="ZeroDCE", checkpoint="weights/zero_dce.safetensors")
