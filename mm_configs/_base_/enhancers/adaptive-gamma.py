"""A gamma for each region by how it is exposed."""

enhancer = dict(type="AdaptiveGamma")
