"""Semi-LLIE.

``weights/semi_llie.safetensors`` is yours to provide: what ``mm_configs/enhancers/semi_llie_visdrone.py`` trains.

In joint training its activations are made again in the backward pass, which saves their memory.
"""

enhancer = dict(type="SemiLLIE", checkpoint="weights/semi_llie.safetensors")
checkpointing = True
