"""CollaBA x2: what follows works on pictures of twice the side, in four times the memory.

``weights/collaba_x2.safetensors`` is yours to provide: what ``mm_configs/enhancers/collaba_x2_rellisur.py`` trains.

In joint training its activations are made again in the backward pass, which saves their memory.
"""

enhancer = dict(type="CollaBA", scale=2, checkpoint="weights/collaba_x2.safetensors")
checkpointing = True
