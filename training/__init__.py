"""How enhancers are trained, on MMEngine."""
