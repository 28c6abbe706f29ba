"""The enhancer Semi-LLIE, a Mamba network.

You must provide ``weights/semi_llie.safetensors``; ``mm_configs/enhancers/semi_llie_visdrone.py`` trains it.

Joint training computes the enhancer's activations again in the backward pass, which saves their memory.
"""

enhancer = dict(type="SemiLLIE", checkpoint="weights/semi_llie.safetensors")
checkpointing = True
