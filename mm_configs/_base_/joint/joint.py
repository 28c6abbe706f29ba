"""Training of detector and enhancer; the detector's losses reach the enhancer."""

model = dict(trainable=True, train_detector=True)
