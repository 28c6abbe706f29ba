"""IAML.

``weights/iaml.safetensors`` is yours to provide: what ``mm_configs/enhancers/iaml_lolv1.py`` trains. Its activations
are made again in the backward pass, which saves their memory.
"""

enhancer = dict(enhancer="IAMLUNet", checkpoint="weights/iaml.safetensors", checkpointing=True)
