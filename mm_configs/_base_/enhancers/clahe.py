"""CLAHE: histogram equalisation of each region of a picture, with limited contrast."""

enhancer = dict(type="CLAHE")
