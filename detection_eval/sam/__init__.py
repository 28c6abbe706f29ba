"""Segment Anything on raw pictures against enhanced ones: masks against a reference picture's, and of box prompts."""
