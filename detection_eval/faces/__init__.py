"""Faces under a gamma sweep: raw pictures against enhanced ones, on annotated sets and on a folder without labels."""
