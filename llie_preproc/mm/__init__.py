"""What this package does to MMEngine, MMCV and MMDetection: a stand-in for operators that are not compiled."""
