"""The modules of this package that register into llie_preproc's registries: see :mod:`llie_preproc.registry`."""

LOCATIONS = {"metric": ["detection_eval.metrics", "detection_eval.metrics.detection_metrics"]}
