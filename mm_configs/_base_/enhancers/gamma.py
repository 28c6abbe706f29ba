"""Gamma correction on the pictures as stored, each once."""

enhanced = [
    dict(type="llie_preproc.Enhance", enhancer=dict(type="GammaCorrection", gamma=0.5), cache_dir="work_dirs/enhanced")
]
