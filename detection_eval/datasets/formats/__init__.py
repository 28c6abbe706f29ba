"""The annotation formats that can be read, one in each module; a module registers its format itself."""
