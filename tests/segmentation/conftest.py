import sys
from pathlib import Path

# The detectors and the made sets of the detection tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "detection"))
