"""Gamma correction."""

enhancer = dict(type="GammaCorrection", gamma=0.5)
