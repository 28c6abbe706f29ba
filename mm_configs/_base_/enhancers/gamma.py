"""Gamma correction with the same gamma for all pictures."""

enhancer = dict(type="GammaCorrection", gamma=0.5)
