"""The commands that train."""

COMMANDS = {
    "train": ("training.commands.train", "train an enhancer"),
    "finetune": ("training.commands.finetune", "finetune a detector, an enhancer, or both together"),
    "split": ("training.commands.split", "write the detector and the enhancer of a finetuned checkpoint as two files"),
}
"""The module of each command and the first line of its help, by the command's name."""
