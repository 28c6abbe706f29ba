"""Compile the Triton kernels for a GPU that need not be present: ``compile_kernels.py CAPABILITY RANK DTYPE
plain|full``.

``plain`` leaves out the optional parts: bias, skip, softplus, shared channels.
"""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from llie_preproc.ops.scan import gpu_kernels

INTEGERS = {"first_group", "length", "columns", "D", "G", "chunks", "batch"}
WALKED = {"u", "delta", "B", "C", "grad"}
OPTIONAL = {"bias": "HAS_BIAS", "skip": "HAS_SKIP"}


def kind(name: str, flags: dict[str, object]) -> str:
    """Triton's type of a kernel's argument."""
    if name in flags or not flags.get(OPTIONAL.get(name, ""), True) or (name == "weight" and not flags.get("R")):
        return "constexpr"
    if name == "directions":
        return "*i32"
    if name in WALKED:
        return "*bf16" if dtype == "bfloat16" else "*fp32"
    # An argument with a name of two letters is a stride, except for these gradients, which are tensors.
    return "i32" if name in INTEGERS or (len(name) == 2 and name not in ("dA", "dB", "dC", "du")) else "*fp32"


capability, rank, dtype, extent = sys.argv[1:]
full = extent == "full"
states = {"R": int(rank), "HAS_BIAS": full, "SOFTPLUS": full, "SHARED": full}
KERNELS = {
    "chunk_states": states,
    "chunk_adjoints": states,
    "outputs": {**states, "HAS_SKIP": full, "ADD": full},
    "gradients": {**states, "HAS_SKIP": full, "ADD": full},
    "combine_chunks": {"REVERSE": full},
}
for kernel_name, flags in KERNELS.items():
    kernel = getattr(gpu_kernels, kernel_name)
    constants = {"N": 16, "T": 64, "BLOCK": 32, **flags}
    signature = {name: kind(name, constants) for name in kernel.arg_names}
    # A constant without a value is None.
    values = {name: constants.get(name) for name, what in signature.items() if what == "constexpr"}
    places = {(kernel.arg_names.index(name),): value for name, value in values.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    compiled = triton.compile(source, target=GPUTarget("cuda", int(capability), 32), options={"num_warps": 4})
    if compiled.asm["cubin"]:
        sys.stdout.write(f"{kernel_name}\n")
