"""Frozen SAM vit_b with its authors' weights: 375 MB, downloaded on first use and checked against their digest."""

sam = dict(
    model="vit_b",
    checkpoint="https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth"
    "#sha256=ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
)
