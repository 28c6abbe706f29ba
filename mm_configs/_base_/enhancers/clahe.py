"""CLAHE on the pictures as stored, each once."""

enhanced = [dict(type="llie_preproc.Enhance", enhancer="CLAHE", cache_dir="work_dirs/enhanced")]
