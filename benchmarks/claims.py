"""Run the quickstart with several seeds and write the measured claims into docs/claims.md.

    python benchmarks/claims.py --seeds 0 1 2 --output runs/claims

A run that is finished in the output folder is not made again, so a stopped benchmark goes
on, and `--output` may hold runs that were made by hand as `seed0`, `seed1`, ...
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
_MARKS = ("<!-- measured: begin -->", "<!-- measured: end -->")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--output", type=Path, default=ROOT / "runs" / "claims")
    parser.add_argument("--recipe", type=Path, default=ROOT / "recipes" / "quickstart.toml")
    parser.add_argument("--document", type=Path, default=ROOT / "docs" / "claims.md")
    options = parser.parse_args()
    reports: dict[int, dict[str, Any]] = {}
    for seed in options.seeds:
        folder = options.output / f"seed{seed}"
        command = [sys.executable, "-m", "r1", "run", str(options.recipe)]
        subprocess.run([*command, f"output={folder}", f"seed={seed}"], check=True, cwd=ROOT)
        reports[seed] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    text = options.document.read_text(encoding="utf-8")
    begin, end = _MARKS
    measured = "\n".join([begin, "", *tables(reports), "", end])
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    options.document.write_text(pattern.sub(lambda _: measured, text), encoding="utf-8")
    print(f"written to {options.document}")
    return int(not all(c["holds"] for r in reports.values() for c in r["claims"].values()))


def tables(reports: dict[int, dict[str, Any]]) -> list[str]:
    seeds = list(reports)
    first = reports[seeds[0]]
    lines = [_row(["claim", "bound", *(f"seed {seed}" for seed in seeds)])]
    lines.append(_row(["---"] * (2 + len(seeds))))
    for name, claim in first["claims"].items():
        bound = f"{claim['comparison']} {_number(claim['bound'], claim['unit'])}"
        cells = [_claim_cell(reports[seed]["claims"][name]) for seed in seeds]
        lines.append(_row([claim["statement"], bound, *cells]))
    lines += ["", _row(["stage", "figure", *(f"seed {seed}" for seed in seeds)])]
    lines.append(_row(["---"] * (2 + len(seeds))))
    for name, stage in first["stages"].items():
        if stage.get("pass_at_1") is None:
            continue
        lines.append(_row([name, "pass@1", *(_pass(reports[s]["stages"][name]) for s in seeds)]))
        for label, key, form in (
            ("cons@8", "cons_at_8", "{:.1%}"),
            ("tokens", "mean_response_tokens", "{:.0f}"),
            ("language", "language_consistency", "{:.1%}"),
        ):
            cells = [form.format(reports[s]["stages"][name][key]) for s in seeds]
            lines.append(_row(["", label, *cells]))
    minutes = [f"{reports[s]['seconds'] / 60:.1f} min" for s in seeds]
    memory = [f"{reports[s]['peak_rss_bytes'] / 2**30:.2f} GiB" for s in seeds]
    lines.append(_row(["whole run", "time", *minutes]))
    lines.append(_row(["", "peak memory", *memory]))
    torch_version = first["versions"].get("torch", "?")
    lines += ["", f"Measured with torch {torch_version} on {_processor()}, two threads."]
    return lines


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _claim_cell(claim: dict[str, Any]) -> str:
    if claim["value"] is None:
        return "not measured"
    return f"{_number(claim['value'], claim['unit'])}{'' if claim['holds'] else ' (fails)'}"


def _number(value: float, unit: str) -> str:
    if unit == "share":
        return f"{value:.1%}"
    if unit == "points":
        return f"{100 * value:+.1f} points"
    return f"{value:.2f}" if abs(value) > 0.01 else f"{value:.1e}"


def _pass(stage: dict[str, Any]) -> str:
    low, high = stage["pass_at_1_ci95"]
    return f"{stage['pass_at_1']:.1%} ({low:.1%} to {high:.1%})"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    names = re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
