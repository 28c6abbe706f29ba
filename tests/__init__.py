"""The suite: a folder for each package; ``house`` and ``hostile`` for all of them; ``support`` for what tests share."""
