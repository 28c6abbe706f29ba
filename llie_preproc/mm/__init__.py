"""Additions to MMEngine, MMCV and MMDetection: operators, console output, and the parts that all runs share."""
