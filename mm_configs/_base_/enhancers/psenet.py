"""PSENet on the pictures as stored, each once; the shipped weights."""

enhanced = [dict(type="llie_preproc.Enhance", enhancer="PSENet", cache_dir="work_dirs/enhanced")]
