"""SCI.

``weights/sci.safetensors`` is yours to provide.
"""

enhancer = dict(enhancer="SCI", checkpoint="weights/sci.safetensors")
