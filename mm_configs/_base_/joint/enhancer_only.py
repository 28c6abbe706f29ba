"""Training of the enhancer for the detector, which stays as it is."""

model = dict(trainable=True, train_detector=False)
