"""CollaBA x2: the detector works on pictures of twice the side, and takes four times the memory.

``weights/collaba_x2.safetensors`` is yours to provide: what ``mm_configs/enhancers/collaba_x2_rellisur.py`` trains. Its
activations are made again in the backward pass, which saves their memory.
"""

enhancer = dict(
    enhancer=dict(type="CollaBA", scale=2), checkpoint="weights/collaba_x2.safetensors", checkpointing=True
)
