"""The demo: enhancement before detectors on shipped or simulated pictures, with one report."""
