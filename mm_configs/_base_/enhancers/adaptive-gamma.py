"""Adaptive gamma correction, with a gamma for each region that depends on its exposure."""

enhancer = dict(type="AdaptiveGamma")
