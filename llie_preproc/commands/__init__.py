"""The commands of the ``llie`` program, and the start and end of every program."""

COMMANDS = {
    "enhance": ("llie_preproc.commands.enhance", "enhance a picture, a folder or a video"),
    "list": ("llie_preproc.commands.list", "list the enhancers and their weights"),
    "convert": ("llie_preproc.commands.convert", "turn a checkpoint into safetensors"),
    "export": ("llie_preproc.commands.export", "write an enhancer as an ONNX graph"),
}
"""Module and one line of help of each command, by its name."""
