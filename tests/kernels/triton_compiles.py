"""Compile Triton's kernels for a GPU's instructions, which takes no GPU; run as a program.

Prints a line a kernel: its name and the shared memory of a program, in bytes.
"""

from __future__ import annotations

import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from r1.kernels import triton_attention, triton_layers


def compile_for(capability: int, function: Any, arguments: dict[str, str], **constants: Any) -> int:
    names = function.arg_names
    signature = {name: arguments.get(name, "constexpr") for name in names}
    values = {(names.index(name),): value for name, value in constants.items()}
    # As a launch finds them: pointers are multiples of 16.
    places = [index for index, name in enumerate(names) if signature[name].startswith("*")]
    attributes = {(index,): [["tt.divisibility", 16]] for index in places}
    source = ASTSource(function, signature, values, attributes)
    compiled = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_stages": 2}
    )
    assert compiled.asm["ptx"]
    return compiled.metadata.shared


def main(capability: int, dtype: str) -> None:
    values, size = f"*{dtype}", 4 if dtype == "fp32" else 2
    inputs = {"query": values, "blocks": values, "tables": "*i32", "items": "*i32"}
    inputs |= {"table_width": "i32", "scale": "fp32"}
    shape = {"BLOCK_SIZE": 16, "GROUPS": 4, "SHARED": 7, "HEAD_DIM": 128, "WIDTH": 128}
    shape |= {"KEYS": 128 // size, "PRECISION": "ieee" if dtype == "fp32" else "tf32"}
    results = {
        "decode": compile_for(
            capability, triton_attention._attend, {**inputs, "out": "*fp32", "sums": "*fp32"},
            **shape, ROWS=16, SPLITS=8,
        ),
        "prefill": compile_for(
            capability, triton_attention._attend, {**inputs, "out": values, "sums": "*i32"},
            **shape, ROWS=16 if dtype == "fp32" else 64, SPLITS=1,
        ),
        "join": compile_for(
            capability, triton_attention._join,
            {"out": values, "parts": "*fp32", "sums": "*fp32", "items": "*i32"},
            NUM_HEADS=28, HEAD_DIM=128, WIDTH=128, SPLITS=8,
        ),
        "store": compile_for(
            capability, triton_attention._store,
            {"blocks": values, "slots": "*i64", "key": values, "value": values,
             "key_stride": "i32", "value_stride": "i32"},
            SIZE=512, WIDTH=512,
        ),
        "rotate": compile_for(
            capability, triton_layers._rotate,
            {"out": values, "heads": values, "cos": values, "sin": values,
             "token_stride": "i32", "head_stride": "i32"},
            NUM_HEADS=28, HALF=64, ROWS=32, WIDTH=64,
        ),
        "gate": compile_for(
            capability, triton_layers._gate, {"gate": values, "up": values, "size": "i32"},
            BLOCK=1024,
        ),
    }  # fmt: skip
    for name, num_bytes in results.items():
        print(name, num_bytes)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
