"""PSENet with the shipped weights."""

enhancer = dict(type="PSENet")
