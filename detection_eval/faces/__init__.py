"""Face detection under a gamma sweep, raw and behind enhancers, on annotated sets or on pictures without labels."""
