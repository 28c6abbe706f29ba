"""The demo: the package's main job on data that it carries or makes, and one report of it."""
