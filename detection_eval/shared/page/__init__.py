"""A report that people look at: one HTML file that needs no network, no JavaScript and no other file."""
