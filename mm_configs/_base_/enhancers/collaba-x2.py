"""CollaBA x2 on the pictures as stored, each once.

``weights/collaba_x2.safetensors`` is yours to provide: what ``mm_configs/enhancers/collaba_x2_rellisur.py`` trains.
"""

enhanced = [
    dict(
        type="llie_preproc.Enhance",
        enhancer=dict(type="CollaBA", scale=2),
        checkpoint="weights/collaba_x2.safetensors",
        cache_dir="work_dirs/enhanced",
    )
]
