"""The tensors of a GGUF file, or of all the parts that one was split into."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from r1.gguf_file import GgufTensor, gguf_parts, read_gguf_header

_KIND_NUMBERS = frozenset(kind.value for kind in GGML_QUANT_SIZES)


class GgufTensors:
    """Memory-mapped weights by their GGUF names, and the metadata, which the first part has."""

    def __init__(self, path: Path) -> None:
        """Open `path` and its other parts; ValueError names what is missing or damaged."""
        self.path = path
        self.by_name: dict[str, GgufTensor] = {}
        self._bytes_of: dict[str, np.ndarray] = {}
        self._path_of: dict[str, Path] = {}
        first = read_gguf_header(path)
        self.metadata = first.metadata
        for part in gguf_parts(path, first):
            header = first if part == path else read_gguf_header(part)
            content = np.memmap(part, mode="r").view(np.ndarray)
            for tensor in header.tensors:
                if tensor.name in self.by_name:
                    raise ValueError(f"{part}: {tensor.name} is in another part too")
                _check_place(part, tensor, len(content))
                self.by_name[tensor.name] = tensor
                self._bytes_of[tensor.name] = content
                self._path_of[tensor.name] = part

    def __contains__(self, name: str) -> bool:
        return name in self.by_name

    def file_of(self, name: str) -> Path:
        """The part that a tensor lies in."""
        return self._path_of[name]

    def values(self, name: str, index: int | None = None) -> np.ndarray:
        """A tensor dequantised to fp32; with `index`, only that slice of its first dimension."""
        tensor = self.by_name[name]
        kind = GGMLQuantizationType(tensor.kind)
        block, size = GGML_QUANT_SIZES[kind]
        row_bytes = tensor.shape[-1] // block * size
        stop = tensor.offset + math.prod(tensor.shape[:-1]) * row_bytes
        content = self._bytes_of[name]
        rows = content[tensor.offset : stop].reshape(*tensor.shape[:-1], row_bytes)
        try:
            return dequantize(rows if index is None else rows[index], kind)
        except NotImplementedError as error:
            raise ValueError(
                f"{self.file_of(name)}: quantisation {kind.name} of {name} is unknown"
            ) from error


def _check_place(path: Path, tensor: GgufTensor, num_bytes: int) -> None:
    """Raise ValueError for a tensor of an unknown type or outside the file."""
    if tensor.kind not in _KIND_NUMBERS:
        raise ValueError(f"{path}: {tensor.name} has unknown type {tensor.kind}")
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    num_values = math.prod(tensor.shape)
    if not tensor.shape or tensor.shape[-1] % block:
        raise ValueError(
            f"{path}: rows of {tensor.name} {list(tensor.shape)} do not make blocks of {block}"
        )
    if tensor.offset + num_values // block * size > num_bytes:
        raise ValueError(
            f"{path}: not a readable GGUF file (truncated: {tensor.name} "
            f"{list(tensor.shape)} ends behind its {num_bytes:,} bytes)"
        )
