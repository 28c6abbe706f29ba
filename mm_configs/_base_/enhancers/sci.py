"""SCI.

You must provide ``weights/sci.safetensors``.
"""

enhancer = dict(type="SCI", checkpoint="weights/sci.safetensors")
