"""The enhancer CollaBA x2, which doubles height and width. The detector behind it needs four times the memory.

You must provide ``weights/collaba_x2.safetensors``; ``mm_configs/enhancers/collaba_x2_rellisur.py`` trains it.

Joint training computes the enhancer's activations again in the backward pass, which saves their memory.
"""

enhancer = dict(type="CollaBA", scale=2, checkpoint="weights/collaba_x2.safetensors")
checkpointing = True
