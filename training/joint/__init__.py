"""Training an enhancer and a detector together: auxiliary losses of the enhancer, and stages."""
