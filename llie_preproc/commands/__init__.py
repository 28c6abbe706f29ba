"""The programs of this project: how they start and end."""
