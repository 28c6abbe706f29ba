"""Compile the Triton kernels for a GPU that need not be there: ``compile_kernels.py CAPABILITY RANK``."""

import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from llie_preproc.ops.scan import gpu_kernels

FLAGS = {"HAS_BIAS": True, "SOFTPLUS": True, "SHARED": True}
KERNELS = {
    "chunk_states": FLAGS,
    "chunk_adjoints": FLAGS,
    "outputs": {**FLAGS, "HAS_SKIP": True, "ADD": True},
    "gradients": {**FLAGS, "HAS_SKIP": True, "ADD": True},
    "combine_chunks": {"REVERSE": True},
}
INTEGERS = {"first_group", "length", "columns", "D", "G", "chunks", "batch"}


def kind(name: str) -> str:
    if name == "directions":
        return "*i32"
    # Strides have two letters, tensors a name.
    return "i32" if name in INTEGERS or (len(name) == 2 and name not in ("dA", "dB", "dC", "du")) else "*fp32"


capability, rank = map(int, sys.argv[1:])
for kernel_name, flags in KERNELS.items():
    kernel = getattr(gpu_kernels, kernel_name)
    constants = {"N": 16, "T": 64, "BLOCK": 32, **flags, **({"R": rank} if "HAS_BIAS" in flags else {})}
    signature = {name: "constexpr" if name in constants else kind(name) for name in kernel.arg_names}
    places = {(kernel.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(fn=kernel, signature=signature, constexprs=places)
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 4})
    if compiled.asm["cubin"]:
        sys.stdout.write(f"{kernel_name}\n")
