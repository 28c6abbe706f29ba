"""Configs of MMEngine; docs/configs.md says how an enhancer and the folders of the sets are chosen."""
