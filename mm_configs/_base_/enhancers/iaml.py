"""The enhancer IAML, a U-Net with attention.

You must provide ``weights/iaml.safetensors``; ``mm_configs/enhancers/iaml_lolv1.py`` trains it.

Joint training computes the enhancer's activations again in the backward pass, which saves their memory.
"""

enhancer = dict(type="IAMLUNet", checkpoint="weights/iaml.safetensors")
checkpointing = True
