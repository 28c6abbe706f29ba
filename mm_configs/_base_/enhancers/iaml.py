"""IAML on the pictures as stored, each once.

``weights/iaml.safetensors`` is yours to provide: what ``mm_configs/enhancers/iaml_lolv1.py`` trains.
"""

enhanced = [
    dict(
        type="llie_preproc.Enhance",
        enhancer="IAMLUNet",
        checkpoint="weights/iaml.safetensors",
        cache_dir="work_dirs/enhanced",
    )
]
