"""Training of the detector alone, behind a frozen enhancer."""

model = dict(trainable=False, train_detector=True)
