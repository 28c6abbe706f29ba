"""The formats of annotations that are read, a module each, which registers itself."""
