"""Semi-LLIE on the pictures as stored, each once.

``weights/semi_llie.safetensors`` is yours to provide: what ``mm_configs/enhancers/semi_llie_visdrone.py`` trains.
"""

enhanced = [
    dict(
        type="llie_preproc.Enhance",
        enhancer="SemiLLIE",
        checkpoint="weights/semi_llie.safetensors",
        cache_dir="work_dirs/enhanced",
    )
]
