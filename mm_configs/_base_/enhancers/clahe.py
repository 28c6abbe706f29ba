"""CLAHE."""

enhancer = dict(type="CLAHE")
