"""GainUNet with the shipped weights, which were trained in front of a detector."""

enhancer = dict(type="GainUNet")
