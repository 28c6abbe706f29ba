"""SCI.

``weights/sci.safetensors`` is yours to provide.
"""

enhancer = dict(type="SCI", checkpoint="weights/sci.safetensors")
