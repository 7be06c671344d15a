"""docs/benchmarks.md: one section a benchmark, each written by its own script."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import torch

from r1.atomic_files import write_text

TITLE = "# Benchmarks\n\nEach section is written by the command that it names.\n"


def write_section(page: Path, title: str, command: str, lines: list[str]) -> None:
    """Put a section into the page, in place of the one of that title."""
    text = page.read_text(encoding="utf-8") if page.exists() else TITLE
    body = "\n".join(lines).strip()
    section = f"## {title}\n\n```sh\n{command}\n```\n\n{body}\n"
    old = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    if old.search(text):
        text = old.sub(lambda _: section + "\n", text).rstrip() + "\n"
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_text(page, text)


def machine_lines(num_threads: int) -> list[str]:
    """What a reader needs to judge times by: processor, threads, versions, other load."""
    cpus = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpus.read_text()) if cpus.exists() else None
    processor = found[1] if found else platform.processor() or platform.machine()
    load = os.getloadavg()[0]
    return [
        f"{processor}, {os.cpu_count()} cores, {num_threads} threads used, load {load:.1f} before; "
        f"Python {platform.python_version()}, torch {torch.__version__}."
    ]
