"""A training that diverges in each process of a group, to see that all processes end by themselves."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import torch.distributed

from llie_preproc.commands.llie import main

# The learning rate becomes huge after the second iteration, so that the weights overflow in one of the next steps.
OVERFLOW = [{"type": "MultiStepLR", "milestones": [2], "gamma": 1e36, "by_epoch": False}]

if __name__ == "__main__":
    config, work = sys.argv[1:]
    status = main(["train", config, "--out", work, "--launcher", "pytorch"])
    torch.distributed.monitored_barrier(timeout=timedelta(seconds=60))
    Path(f"{work}.{torch.distributed.get_rank()}").write_text(str(status))
