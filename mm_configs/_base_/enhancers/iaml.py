"""IAML.

``weights/iaml.safetensors`` is yours to provide: what ``mm_configs/enhancers/iaml_lolv1.py`` trains.

In joint training its activations are made again in the backward pass, which saves their memory.
"""

enhancer = dict(type="IAMLUNet", checkpoint="weights/iaml.safetensors")
checkpointing = True
