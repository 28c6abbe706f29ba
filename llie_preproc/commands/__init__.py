"""The commands of the ``llie`` program, and what every program does at its start and end."""

COMMANDS = {
    "enhance": ("llie_preproc.commands.enhance", "enhance a picture, a folder or a video"),
    "list": ("llie_preproc.commands.list", "list the enhancers and their weights"),
    "convert": ("llie_preproc.commands.convert", "turn a checkpoint into safetensors"),
    "export": ("llie_preproc.commands.export", "write an enhancer as an ONNX graph"),
}
"""Module and line of help of each command, by the command's name."""
