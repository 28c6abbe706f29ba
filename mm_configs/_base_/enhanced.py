"""The enhancer that ``ENHANCER`` names, as a transform on the pictures as stored; the cache keeps what it makes."""

_base_ = "enhancers/{{$ENHANCER:psenet}}.py"

enhanced = [dict(type="llie_preproc.Enhance", enhancer=_base_.enhancer, cache_dir="work_dirs/enhanced")]
