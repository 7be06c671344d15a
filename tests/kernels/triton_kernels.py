"""Triton's kernels on the GPU, or else on the CPU in Triton's interpreter."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def import_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip where triton is missing; make the interpreter multiply bf16."""
    pytest.importorskip("triton", reason="triton is not installed (pip install triton)")
    if DEVICE.type == "cuda":
        return
    assert os.environ.get("TRITON_INTERPRET") == "1", "set by tests/conftest.py"
    interpreter = pytest.importorskip("triton.runtime.interpreter")
    builder, language = interpreter.InterpreterBuilder, pytest.importorskip("triton.language")
    multiply = builder.create_dot

    def widened(handle: object) -> object:
        """numpy has no bf16: the interpreter keeps its bits, and would multiply those."""
        if handle.dtype.scalar != language.bfloat16:  # pyright: ignore[reportAttributeAccessIssue]
            return handle
        bits = handle.data.astype(np.uint32) << 16  # pyright: ignore[reportAttributeAccessIssue]
        return interpreter.TensorHandle(bits.view(np.float32), language.float32)

    def create_dot(self: object, a: object, b: object, *rest: object) -> object:
        return multiply(self, widened(a), widened(b), *rest)

    monkeypatch.setattr(builder, "create_dot", create_dot)
