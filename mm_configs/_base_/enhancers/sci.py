"""The enhancer SCI, a small network that estimates the illumination.

You must provide ``weights/sci.safetensors``.
"""

enhancer = dict(type="SCI", checkpoint="weights/sci.safetensors")
