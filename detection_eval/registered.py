"""The modules of this package whose classes register in llie_preproc's registries (:mod:`llie_preproc.registry`)."""

LOCATIONS = {"metric": ["detection_eval.metrics", "detection_eval.metrics.detection_metrics"]}
