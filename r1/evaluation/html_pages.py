"""HTML pages of their own: no script, no request to anywhere, every text escaped.

A page shows what a model wrote, so nothing of it may run or deceive: jinja2 escapes all
text, the page's own policy forbids scripts and requests, and characters that would turn
the direction of the text around are shown by their number.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_ASSETS = Path(__file__).resolve().parent.parent / "assets"

# Control characters have no place in HTML, and surrogates none in UTF-8.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")

# Overrides, embeddings and isolates of the bidirectional algorithm (Unicode Annex 9): with
# them a wrong answer can look like the right one ("Trojan Source", Boucher, Anderson 2021).
_TURNING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def render_page(template: str, **values: Any) -> str:
    """A page from a template of r1/assets; raises jinja2's UndefinedError for a missing value."""
    return printable(_environment().get_template(template).render(**values))


def printable(text: str) -> str:
    """Text without control characters, and with marks of direction as `[U+202E]`."""
    text = _TURNING.sub(lambda match: f"[U+{ord(match.group()):04X}]", text)
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


@cache
def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_ASSETS),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=format_percent,
        number=format_number,
        count=format_count,
        duration=format_duration,
        memory=format_memory,
        pretty=pretty,
        claim_number=format_claim_number,
        verdict=format_verdict,
    )
    return environment


def format_percent(value: float | None, digits: int = 1) -> str:
    """82.4% for 0.8244; what was not measured is a dash."""
    return "–" if value is None else f"{value * 100:.{digits}f}%"


def format_number(value: float | None, digits: int = 1) -> str:
    """1234.56 is 1,234.6; very small numbers keep two figures."""
    if value is None:
        return "–"
    if value != 0 and abs(value) < 10**-digits:
        return f"{value:.2g}"
    return f"{value:,.{digits}f}"


def format_count(value: int | None) -> str:
    """1,920; what is not known is a dash."""
    return "–" if value is None else f"{value:,}"


def format_duration(seconds: float | None) -> str:
    """8.2 s, 9 min 12 s, 3 h 05 min."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_memory(num_bytes: float | None) -> str:
    """In units of 1000: 812 MB, 2.41 GB."""
    if not num_bytes:
        return "–"
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def format_claim_number(value: float | None, unit: str) -> str:
    """A claim's value or bound in its own unit; a dash when not measured."""
    if value is None:
        return "not measured"
    if unit == "share":
        return f"{value * 100:.1f}%"
    if unit == "points":
        return f"{value * 100:+.1f} points".replace("-", "−").replace("+0.0", "0")
    if unit == "ratio":
        return f"{value:.2f}×"
    return f"{value:.3g}"


def format_verdict(is_good: bool | None) -> Markup:
    """A mark that colour-blind readers and screen readers can tell too."""
    kind, mark, words = {
        True: ("good", "✓", "yes"),
        False: ("bad", "✗", "no"),
        None: ("open", "–", "not measured"),
    }[is_good]
    return Markup('<span class="mark {}" role="img" aria-label="{}">{}</span>').format(
        kind, words, mark
    )


def pretty(value: Any) -> str:
    """JSON for reading; text (a recipe's TOML) as it is."""
    return value if isinstance(value, str) else json.dumps(value, indent=2, ensure_ascii=False)
