"""What several commands that measure share."""
