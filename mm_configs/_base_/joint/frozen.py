"""Training of the detector behind the enhancer, which stays as it is."""

model = dict(trainable=False, train_detector=True)
