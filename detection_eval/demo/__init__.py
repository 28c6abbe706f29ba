"""The demo ``llie demo``: detectors on raw and on enhanced pictures, and one report."""
