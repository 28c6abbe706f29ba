"""Zero-DCE on the pictures as stored, each once.

``weights/zero_dce.safetensors`` is yours to provide.
"""

enhanced = [
    dict(
        type="llie_preproc.Enhance",
        enhancer="ZeroDCE",
        checkpoint="weights/zero_dce.safetensors",
        cache_dir="work_dirs/enhanced",
    )
]
