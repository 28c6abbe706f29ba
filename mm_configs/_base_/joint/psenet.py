"""PSENet; the shipped weights."""

enhancer = dict(enhancer="PSENet")
