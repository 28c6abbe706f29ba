"""Parts that several of the measuring commands share."""
