"""Training an enhancer and a detector together, with auxiliary losses of the enhancer and in stages."""
