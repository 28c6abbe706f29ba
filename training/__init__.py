"""How enhancers are trained, on MMEngine."""

from llie_preproc.errors import require

require("mmengine", "training")
