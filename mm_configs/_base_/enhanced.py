"""The enhancer that ``ENHANCER`` names, as a transform of the stored pictures; the cache keeps its results."""

_base_ = "enhancers/{{$ENHANCER:psenet}}.py"

enhanced = [dict(type="llie_preproc.Enhance", enhancer=_base_.enhancer, cache_dir="work_dirs/enhanced")]
