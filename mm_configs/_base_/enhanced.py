"""A pipeline step that enhances the stored pictures and keeps the results in a cache.

The environment variable ``ENHANCER`` names the enhancer (by default PSENet).
"""

_base_ = "enhancers/{{$ENHANCER:psenet}}.py"

enhanced = [dict(type="llie_preproc.Enhance", enhancer=_base_.enhancer, cache_dir="work_dirs/enhanced")]
