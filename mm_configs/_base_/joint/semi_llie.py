"""Semi-LLIE.

``weights/semi_llie.safetensors`` is yours to provide: what ``mm_configs/enhancers/semi_llie_visdrone.py`` trains. Its
activations are made again in the backward pass, which saves their memory.
"""

enhancer = dict(enhancer="SemiLLIE", checkpoint="weights/semi_llie.safetensors", checkpointing=True)
