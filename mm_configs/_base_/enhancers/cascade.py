"""PSENet with the shipped weights, then bicubic enlargement to twice the height and width."""

enhancer = dict(type="Cascade", enhancers=[dict(type="PSENet"), dict(type="Upscale", scale=2)])
