"""Bytes to text, whatever encoding they are in."""

from __future__ import annotations

import codecs
import re

# UTF-32 first: its little-endian mark begins with UTF-16's.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The more common first.
_LEGACY = (
    *("gb18030", "big5", "cp932", "euc_jp", "cp949"),
    *("cp1252", "cp1250", "cp1251", "koi8_r", "cp1253", "cp1254", "cp1255", "cp1256", "cp874"),
)
_SAMPLE_BYTES = 1 << 18
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
_MAX_CONTROL_SHARE = 0.01


class NotText(ValueError):
    """Bytes that are no text in any encoding known here."""


def decode_text(data: bytes, charset: str = "") -> str:
    """The text, lines ended by \\n and without control characters. Raises NotText.

    A byte order mark decides, then the zeros of UTF-16, then UTF-8 if all of it is, then
    `charset` (what a server said), and at last charset-normalizer's guess among the
    encodings that files still come in.
    """
    text = _decode(data, charset)
    controls = len(_CONTROLS.findall(text))
    if controls > max(8, len(text) * _MAX_CONTROL_SHARE):
        raise NotText("not a text file")
    return _CONTROLS.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))


def _decode(data: bytes, charset: str) -> str:
    for mark, name in _MARKS:
        if data.startswith(mark):
            return data.decode(name, errors="replace")
    # These two are valid UTF-8 as well: half of their bytes are zeros, or all are ASCII.
    japanese_mail = "iso2022_jp" if b"\x1b$" in data[:_SAMPLE_BYTES] else ""
    for name in (_utf16_by_zeros(data), japanese_mail, "utf-8", charset):
        try:
            if name:
                return data.decode(name)
        except (LookupError, UnicodeError):
            continue
    if b"\x00" in data:
        raise NotText("not a text file")
    return data.decode(_guess(data), errors="replace")


def _utf16_by_zeros(data: bytes) -> str:
    """UTF-16 without a mark: text with any Latin letters or spaces has zeros on one side only."""
    sample = data[:_SAMPLE_BYTES]
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    if len(data) % 2 or max(even, odd) * 20 < len(sample) or min(even, odd) * 20 > max(even, odd):
        return ""
    return "utf-16-be" if even > odd else "utf-16-le"


def _guess(data: bytes) -> str:
    from charset_normalizer import from_bytes

    # Cut where no character of several bytes is cut: after a line.
    end = data.rfind(b"\n", 0, _SAMPLE_BYTES) + 1 if len(data) > _SAMPLE_BYTES else len(data)
    matches = from_bytes(data[: end or _SAMPLE_BYTES], cp_isolation=list(_LEGACY))
    best = matches.best()
    if best is None:
        raise NotText("not a text file, or in an encoding that is not known here; save it as UTF-8")
    # Equally good: the one that more files are in.
    rank = (best.chaos, best.coherence)
    equals = [match.encoding for match in matches if (match.chaos, match.coherence) == rank]
    return min(equals, key=lambda name: _LEGACY.index(name) if name in _LEGACY else len(_LEGACY))
