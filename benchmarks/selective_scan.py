"""The time of the selective scan's backends against the sequential definition, and the time of Semi-LLIE.

``python -m benchmarks.selective_scan [--device cpu] [--length 16384] [--channels 128] [--states 16] [--json FILE]``

The definition is written in torch as usual: it computes the decays of all positions at once, then loops over the
positions. On a GPU it would take minutes and is left out. On a GPU the backends are compared with mamba-ssm's kernel,
or with the chunked backend if mamba-ssm's extension does not load. The time of the four-direction scan is also compared
with the time to copy the bytes that a scan has to move.
"""

from __future__ import annotations

from llie_preproc.commands.program import launch

if __name__ == "__main__":
    launch("benchmarks.selective_scan")

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llie_preproc import build_enhancer
from llie_preproc.inference import enhance_batch
from llie_preproc.ops import scan_backends, selective_scan, selective_scan_2d

from .timing import machine, report, seconds


def sequential(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """The scan ``(batch, D, L)``, computed position by position in float32."""
    step = torch.nn.functional.softplus(delta)
    decay = torch.exp(torch.einsum("bdl,dn->bdln", step, A))
    update = torch.einsum("bdl,bnl,bdl->bdln", step, B, u)
    state, outputs = A.new_zeros(u.shape[0], *A.shape), []
    # The loop unbinds the positions: if it indexed them, each gradient would be as large as the whole sequence.
    for a, x, c in zip(decay.unbind(2), update.unbind(2), C.unbind(2), strict=True):
        state = a * state + x
        outputs.append(torch.einsum("bdn,bn->bd", state, c))
    return torch.stack(outputs, 2) + D[:, None] * u


def with_gradient(scan: Callable[..., Tensor], inputs: dict[str, Tensor]) -> Callable[[], Any]:
    """A function that runs the scan and computes the gradients of all its inputs."""

    def run() -> Any:
        leaves = {k: v.detach().requires_grad_() for k, v in inputs.items()}
        return torch.autograd.grad(scan(**leaves).sum(), list(leaves.values()))

    return run


def one_dimensional(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The times of every backend that runs on the device, forward and with gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = dict.fromkeys(("u", "delta"), (1, args.channels, args.length))
    shapes |= dict.fromkeys(("B", "C"), (1, args.states, args.length))
    inputs = {k: torch.randn(v, generator=generator).to(device) for k, v in shapes.items()}
    inputs["A"] = -torch.rand(args.channels, args.states, generator=generator).to(device) * args.states
    inputs["D"] = torch.ones(args.channels, device=device)
    result: dict[str, Any] = {}
    truth = None
    if device.type == "cpu":
        truth = sequential(**inputs)
        result["sequential"] = measure(sequential, inputs, device, repeats=2)
    for backend in scan_backends():
        usable = backend.available and (not backend.devices or device.type in backend.devices)
        if not usable or backend.name == "reference":
            continue

        def scan(name: str = backend.name, **x: Tensor) -> Tensor:
            return selective_scan(**x, delta_softplus=True, backend=name)

        result[backend.name] = measure(scan, inputs, device, args.repeats)
        if truth is not None:
            error = (scan(**inputs) - truth).abs().max() / truth.abs().max()
            result[backend.name]["largest_relative_difference"] = float(error)
    add_ratios(result, "sequential" if truth is not None else "mamba_ssm" if "mamba_ssm" in result else "chunked")
    return result


def measure(scan: Callable[..., Tensor], inputs: dict[str, Tensor], device: torch.device, repeats: int) -> dict:
    """The median milliseconds of a scan, forward alone and with gradients."""
    with torch.no_grad():
        forward = statistics.median(seconds(lambda: scan(**inputs), repeats, device))
    both = statistics.median(seconds(with_gradient(scan, inputs), repeats, device))
    return {"forward_ms": round(1e3 * forward, 3), "forward_backward_ms": round(1e3 * both, 3)}


def add_ratios(result: dict[str, Any], baseline: str) -> None:
    """Add to each backend's row how many times faster than the baseline it is."""
    for name, values in result.items():
        for what in ("forward", "forward_backward"):
            if name != baseline:
                ratio = result[baseline][f"{what}_ms"] / values[f"{what}_ms"]
                values[f"{what}_times_faster_than_{baseline}"] = round(ratio, 2)


def two_dimensional(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The times of the four-direction scan of one 256x256 image, and the time to copy the bytes that it has to move."""
    side, rank = 256, 4
    pixels = (1, side, side)
    inputs = {
        "u": torch.randn(*pixels, args.channels, device=device),
        "delta": torch.randn(*pixels, 4, rank, device=device),
        "A": -torch.rand(4, args.channels, args.states, device=device) * args.states,
        "B": torch.randn(*pixels, 4, args.states, device=device),
        "C": torch.randn(*pixels, 4, args.states, device=device),
        "D": torch.ones(4, args.channels, device=device),
        "delta_weight": torch.randn(4, args.channels, rank, device=device),
    }
    result = measure(lambda **x: selective_scan_2d(**x), inputs, device, args.repeats)
    once = sum(x.numel() for x in inputs.values()) + inputs["u"].numel()
    result["least_bytes_forward"] = 4 * once
    # A copy both reads and writes, so half as many elements move as many bytes.
    source = torch.empty(once // 2, device=device)
    target = torch.empty_like(source)
    copy = statistics.median(seconds(lambda: target.copy_(source), args.repeats, device))
    result["copy_of_these_bytes_ms"] = round(1e3 * copy, 4)
    result["share_of_the_memory_floor"] = round(1e3 * copy / result["forward_ms"], 4)
    return result


def semi_llie(args: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The seconds of one forward pass and the nanoseconds for each pixel, for each size of image."""
    network = build_enhancer("SemiLLIE", checkpoint=None, device=device)
    result = {}
    for side in args.sides:
        image = torch.rand(3, side, side, device=device)

        def run(image: Tensor = image) -> list[Tensor]:
            with torch.no_grad():
                return enhance_batch([image], network)

        taken = statistics.median(seconds(run, 3 if side <= 256 else 1, device))
        result[f"{side}x{side}"] = {"seconds": round(taken, 4), "ns_per_pixel": round(1e9 * taken / side**2)}
    return result


def main() -> None:
    """Measure, print the result, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--length", type=int, default=16_384)
    parser.add_argument("--channels", type=int, default=128)
    parser.add_argument("--states", type=int, default=16)
    parser.add_argument("--sides", type=int, nargs="*", default=[128, 256, 512, 1024])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    result = {
        "machine": machine(device),
        "threads": args.threads,
        "torch": torch.__version__,
        f"scan of L={args.length}, D={args.channels}, N={args.states}, float32": one_dimensional(args, device),
        "four-direction scan of 256x256": two_dimensional(args, device),
        "Semi-LLIE forward": semi_llie(args, device),
    }
    report(result, args.json)
