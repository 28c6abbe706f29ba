"""The commands that measure, and the commands that prepare the data for measuring."""

COMMANDS = {
    "demo": (
        "detection_eval.commands.demo",
        "enhance photographs, find faces and train a small detector, in one report",
    ),
    "compare": (
        "detection_eval.commands.compare",
        "AP of a detector behind enhancers: raw, zero-shot, retrained and joint",
    ),
    "report": ("detection_eval.commands.report", "write one HTML page of a comparison"),
    "score": ("detection_eval.commands.score", "AP of saved detections, with intervals"),
    "quality": ("detection_eval.commands.quality", "PSNR, SSIM and other metrics of enhanced pictures"),
    "faces": ("detection_eval.commands.faces", "face detection in extreme light, raw and behind enhancers"),
    "fddb": ("detection_eval.commands.fddb", "FDDB's discrete and continuous ROC of saved detections"),
    "sam": ("detection_eval.commands.sam", "Segment Anything on dark pictures, raw and behind enhancers"),
    "annotations": (
        "detection_eval.commands.annotations",
        "convert annotations of sets such as VisDrone, ExDark or WIDER FACE to COCO's format",
    ),
    "night": ("detection_eval.commands.night", "list the night pictures of a folder"),
    "gamma-shift": ("detection_eval.commands.gamma_shift", "make a set of pictures in too little and too much light"),
    "cache": ("detection_eval.commands.cache", "enhance the pictures of a detector's config ahead of its training"),
}
"""Module and first line of the help of each command, by its name."""
