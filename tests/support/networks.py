"""Networks as small as they can be."""

from __future__ import annotations

SMALL = {"SemiLLIE": dict(width=4), "IAMLUNet": dict(width=4, depth=2)}
"""Arguments of the enhancers that are large by default."""
