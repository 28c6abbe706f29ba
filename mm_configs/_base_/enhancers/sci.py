"""SCI on the pictures as stored, each once.

``weights/sci.safetensors`` is yours to provide.
"""

enhanced = [
    dict(
        type="llie_preproc.Enhance",
        enhancer="SCI",
        checkpoint="weights/sci.safetensors",
        cache_dir="work_dirs/enhanced",
    )
]
