"""Segment Anything on raw and on enhanced pictures: automatic masks against a reference, and masks of box prompts."""
