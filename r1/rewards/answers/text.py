r"""One spelling for the many ways in which an answer is typed, and cutting it at its own commas.

Nothing here decides what an answer means: `tidy` takes off what surrounds it and what only sets
its type (`\left`, `\,`, `$`), and writes the same sign always in the same way.
"""

from __future__ import annotations

import re

_CHARACTERS = str.maketrans(
    {
        "−": "-", "–": "-", "—": "-", "﹣": "-", "－": "-", "＋": "+", "×": r"\times ",
        "⋅": r"\cdot ", "·": r"\cdot ", "∙": r"\cdot ", "÷": r"\div ", "π": r"\pi ",
        "∞": r"\infty ", "≤": r"\le ", "≥": r"\ge ", "⩽": r"\le ", "⩾": r"\ge ", "≠": r"\ne ",
        "≈": r"\approx ", "±": r"\pm ", "∓": r"\mp ", "∪": r"\cup ", "∩": r"\cap ",
        "∈": r"\in ", "∅": r"\emptyset ", "Ø": r"\emptyset ", "°": r"^\circ ", "º": r"^\circ ",
        "Å": r"\AA ",
        "√": r"\sqrt", "∛": r"\sqrt[3]", "ℝ": r"\mathbb{R}", "ℤ": r"\mathbb{Z}",
        "ℚ": r"\mathbb{Q}", "ℕ": r"\mathbb{N}", "ℂ": r"\mathbb{C}", "θ": r"\theta ",
        "α": r"\alpha ", "β": r"\beta ", "γ": r"\gamma ", "λ": r"\lambda ", "φ": r"\phi ",
        "ω": r"\omega ", "μ": r"\mu ", "Ω": r"\Omega ", "Δ": r"\Delta ",
        "²": "^2", "³": "^3", "⁴": "^4", "⁵": "^5", "⁰": "^0", "¹": "^1",
        "₀": "_0", "₁": "_1", "₂": "_2", "₃": "_3", "₄": "_4", "₅": "_5", "₈": "_8",
        "½": r"\frac{1}{2}", "⅓": r"\frac{1}{3}", "⅔": r"\frac{2}{3}", "¼": r"\frac{1}{4}",
        "¾": r"\frac{3}{4}", "（": "(", "）": ")", "［": "[", "］": "]", "｛": r"\{", "｝": r"\}",
        "，": ", ", "、": ", ", "；": "; ", "：": ":", "％": "%", "＝": "=", "＜": "<", "＞": ">",
        "。": ".", "．": ".", "⟨": r"\langle ", "⟩": r"\rangle ", "∶": ":", "＄": "$",
        "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ", "\u200b": "",
        "’": "'", "‘": "'", "“": '"', "”": '"', "\t": " ", "\n": " ",
    }
)  # fmt: skip

_ALIASES = {
    "dfrac": "frac", "tfrac": "frac", "cfrac": "frac", "nicefrac": "frac", "dbinom": "binom",
    "tbinom": "binom", "leq": "le", "leqslant": "le", "geq": "ge", "geqslant": "ge", "neq": "ne",
    "lt": "<", "gt": ">", "mid": "|", "vert": "|", "lvert": "|", "rvert": "|", "ast": "*",
    "lbrace": r"\{", "rbrace": r"\}", "lbrack": "[", "rbrack": "]", "colon": ":",
    "varnothing": "emptyset", "degree": r"^\circ", "to": "rightarrow", "bmod": "mod",
    "lor": r" \text{or} ", "vee": r" \text{or} ", "land": r" \text{and} ",
    "wedge": r" \text{and} ", "dots": "ldots", "cdots": "ldots", "dotsc": "ldots",
    "infin": "infty", "R": r"\mathbb{R}", "backslash": "setminus", "varphi": "phi",
    "varepsilon": "epsilon", "simeq": "approx", "doteq": "approx", "lg": r"\log_{10}",
}  # fmt: skip
_NO_MEANING = (
    r"left|right|middle|[bB]igg?[lrm]?|displaystyle|textstyle|scriptstyle|limits|nolimits|"
    r"boldsymbol|bm|hline|centering|normalsize|large|rm|bf|it"
)
_TYPEFACE = (
    r"text(?:bf|it|rm|sf|tt|normal|up)?|textnormal|math(?:rm|bf|it|sf|tt|normal|cal)|mbox|hbox|"
    r"operatorname\*?|emph|underline"
)
_WRAPPERS = (
    ("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]"), ("**", "**"), ("__", "__"),
    ("`", "`"), ('"', '"'),
)  # fmt: skip
_LEAD_IN = re.compile(
    r"^(?:(?:所以|因此|故|综上|综上所述|于是)[,，]?\s*)*(?:解得|得到|得|故选|选择|故答案为|答案为|答)\s*[:：]?\s*(?=[^\u4e00-\u9fff])|"
    r"^[^\d\\=]{0,20}(?:取值范围|值|面积|体积|长度|长|周长|概率|解集|方程|个数|解)(?:是|为)\s*[:：]?\s*(?=[^\u4e00-\u9fff])|"
    r"^(?:(?:so|thus|therefore|hence|and)\b,?\s*)?(?:the\s+)?(?:final\s+|correct\s+)?"
    r"(?:answers?|solutions?|result|答案|解)(?:\s+(?:is|are)\b|\s*[为是]|\s*[:：=])\s*:?\s*|"
    # "The value of x is", "Its area equals": a sentence whose end is the answer.
    r"^(?:(?:so|thus|therefore|hence)\b,?\s*)?(?:the|its|this|our)\s+"
    r"(?:[a-z-]+\s+|\$[^$=]{1,20}\$\s+){1,8}?(?:is|are|was|equals?|becomes)\b"
    r"(?!\s+(?:not|less|more|no|between|about|odd|even|at least|at most)\b)\s*:?\s*"
    r"(?:equal to\s+|given by\s+|at\s+)?",
    re.IGNORECASE,
)
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*d\s*(\^\s*\{?\s*2\s*\}?)?\s*([A-Za-z]|\\[a-z]+)\s*\}"
    r"\s*\{\s*d\s*t\s*(?:\^\s*\{?\s*2\s*\}?)?\s*\}"
)
_OPENING = {"(": ")", "[": "]", "{": "}"}


def tidy(text: str) -> str:
    """The answer in one spelling, without what surrounds it or only sets its type."""
    text = re.sub(r"(?<=[\d.])([ck]?m)(?=[²³])", r" \1", text).translate(_CHARACTERS)
    text = re.sub(r"\^(\d)((?:\^\d)+)", lambda m: f"^{{{m[1]}{m[2].replace('^', '')}}}", text)
    text = _unwrap(re.sub(r"[\u2600-\u27bf\U0001f300-\U0001faff\ufe0f]", " ", text))
    text = _unboxed(text)
    text = re.sub(r"\\(?:text)?color\s*\{[^{}]*\}", "", text)
    text = re.sub(
        r"^\]([^\[\]]*)([\[\]])$", lambda m: f"({m[1]}{')' if m[2] == '[' else ']'}", text
    )
    text = re.sub(r"^\[([^\[\]]*)\[$", r"[\1)", text)
    text = re.sub(r"(?<=\d)\s*(?:,\s*\\!|\{\s*,\s*\}(?:\\!)?)\s*(?=\d{3}(?!\d))", "", text)
    text = re.sub(r"\\[,;:>](?=\d{3}(?!\d))(?<=\d\\.)", "", text)  # 10\,000
    text = re.sub(r"(?<!\\)\\!", "", text)
    text = re.sub(
        r"(?<!\\)\\(?:[,;:> ]|quad(?![A-Za-z])|qquad(?![A-Za-z])|enspace)|(?<!^)~|&nbsp;", " ", text
    )
    text = re.sub(rf"\\(?:left|right)\s*\.(?!\d)|\\(?:{_NO_MEANING})(?![A-Za-z])", "", text)
    text = re.sub(r"\\[hv]?space\*?\{[^{}]*\}|\\(?:label|tag)\{[^{}]*\}", " ", text)
    text = re.sub(r"\\([A-Za-z]+)", _alias, text)
    text = _plain_type(text)
    text = re.sub(r"(?<!\\)\\[()]", " ", text)
    text = _DERIVATIVE.sub(lambda m: rf"\{'d' if m[1] else ''}dot{{{m[2]}}}", text)
    text = re.sub(r"\^\{\s*\\circ\s*\}|\^\s*\\circ(?![A-Za-z])", " degrees ", text)
    text = re.sub(r"\{?\s*(\w+)\s*\\choose\s*(\w+)\s*\}?", r"\\binom{\1}{\2}", text)
    text = re.sub(r"\bC\(\s*(\w+)\s*,\s*(\w+)\s*\)", r"\\binom{\1}{\2}", text)
    text = re.sub(r"\b(?:negative|minus) infinity\b", r"-\\infty", text)
    text = re.sub(r"\bC_\{?(\d+)\}?\^\{?(\d+)\}?", r"\\binom{\1}{\2}", text)
    text = text.replace(r"\%", "%").replace(r"\#", "#").replace(r"\&", "&")
    text = re.sub(r"(?<!<)<=|=<(?!=)", r"\\le ", text)
    text = re.sub(r">=", r"\\ge ", text)
    text = re.sub(r"!=(?!=)", r"\\ne ", text).replace("==", "=").replace(r"\not=", r"\ne ")
    text = re.sub(r"\s+", " ", text).strip()
    return _unwrap(_thousands(text)).replace(r"\$", "$")


def _unboxed(text: str) -> str:
    """Formulas in boxes without them; of a sentence around boxes the last box."""
    boxes = list(re.finditer(r"\\f?box(?:ed)?\s*\{", text))
    ends = [matching(text, box.end() - 1) for box in boxes]
    if not boxes or -1 in ends:
        return text
    outside = text
    for box, end in zip(reversed(boxes), reversed(ends), strict=True):
        outside = outside[: box.start()] + " " + outside[end + 1 :]
    words = re.findall(r"(?<![A-Za-z\\])[A-Za-z]{2,}", outside)
    if set(words) - {"and", "or", "text"}:
        return text[boxes[-1].end() : ends[-1]]
    for box, end in zip(reversed(boxes), reversed(ends), strict=True):
        text = text[: box.start()] + text[box.end() : end] + text[end + 1 :]
    return text


def _alias(match: re.Match[str]) -> str:
    name = _ALIASES.get(match[1], match[1])
    # Only letters are the name of a command.
    return f"\\{name}" if name.isalpha() else name


def _plain_type(text: str) -> str:
    r"""`\text{ cm}` as ` cm `: with spaces, so that a unit keeps apart from a variable."""
    pattern = re.compile(rf"\\(?:{_TYPEFACE})\s*\{{([^{{}}]*)\}}")
    for _ in range(4):  # nested typefaces
        text, count = pattern.subn(lambda match: f" {match[1]} ", text)
        if not count:
            break
    return re.sub(rf"\\(?:{_TYPEFACE})(?![A-Za-z])", " ", text)


def _thousands(text: str) -> str:
    """Groups of three digits joined: `12 345` and `1,234`, where no list can be meant."""
    text = re.sub(
        r"(?<![\w.,])(?<!\d )[1-9]\d{0,2}(?: \d{3})+(?![\d/]| \d)",
        lambda match: match[0].replace(" ", ""),
        text,
    )
    # Within brackets a comma separates: (1,234) is a pair.
    if not re.search(r"[(\[{]", text.replace(r"\frac", "")) or re.search(r"\\frac", text):
        text = re.sub(
            r"(?<![\d.,_])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d|\.\d*,)",
            lambda match: match[0].replace(",", ""),
            text,
        )
    return text


def _unwrap(text: str) -> str:
    """Take off dollars, boxes, emphasis, lead-ins and the full stop, as often as there are."""
    before = None
    while text != before:
        before = text
        text = text.strip().rstrip("\\").strip()
        for opening, closing in _WRAPPERS:
            inner = text[len(opening) : -len(closing)]
            if (
                len(text) > len(opening) + len(closing)
                and text.startswith(opening)
                and text.endswith(closing)
                and opening not in inner.replace(r"\$", "")
                and not inner.endswith("\\" if opening == "$" else "\0")
            ):
                text = inner.strip()
        box = re.match(r"\\f?box(?:ed)?\s*\{", text)
        if box and matching(text, box.end() - 1) == len(text) - 1:
            text = text[box.end() : -1]
        text = re.sub(r"(?<!\.)[.,;]$|(?<=\.\.\.)[.,;]$", "", text)
        text = _LEAD_IN.sub("", text) if len(text) < 300 else text
    # Dollars around parts: "$12$ and $13$"; before a number they are money.
    if text.count("$") - text.count(r"\$") >= 2:
        text = re.sub(r"(?<!\\)\$", " ", text)
    return re.sub(r"^\*\*|\*\*$", "", text).strip()


def matching(text: str, start: int) -> int:
    r"""Where the bracket at `start` closes, or -1; `\{` pairs with `\}`, `(` also with `]`."""
    is_escaped = start > 0 and text[start - 1] == "\\" and text[start] == "{"
    depth, index = 0, start - 1 if is_escaped else start
    while index < len(text):
        escaped = text[index] == "\\" and index + 1 < len(text)
        char = text[index + 1] if escaped and text[index + 1] in "{}" else text[index]
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(char, 0)
        index += 2 if escaped and text[index + 1] in "{}" else 1
        if depth == 0:
            return index - 1
    return -1


def split_top(text: str, pattern: str) -> list[str]:
    """The parts between matches of `pattern` that lie in no bracket (nor `begin ... end`)."""
    separator = re.compile(pattern)
    parts, depth, start, index = [], 0, 0, 0
    while index < len(text):
        if depth == 0 and index > 0 and (match := separator.match(text, index)) and match[0]:
            parts.append(text[start:index])
            start = index = match.end()
            continue
        if text.startswith((r"\begin{", r"\langle"), index):
            depth += 1
        elif text.startswith((r"\end{", r"\rangle"), index):
            depth -= 1
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(text[index], 0)
        index += 1
    return [part.strip() for part in [*parts, text[start:]]]


def bracketed(text: str) -> tuple[str, str, str] | None:
    r"""(opening, content, closing) of a text that is one bracket, such as `[0, 1)`, else None."""
    if text.startswith(r"\langle") and text.endswith(r"\rangle"):
        return "<", text[7:-7].strip(), ">"
    if text.startswith("<") and text.endswith(">") and "," in text:
        return "<", text[1:-1].strip(), ">"
    if text.startswith(r"\{") and text.endswith(r"\}"):
        return (r"\{", text[2:-2].strip(), r"\}") if matching(text, 1) == len(text) - 1 else None
    if not text or text[0] not in _OPENING or text[-1] not in ")]}":
        return None
    if matching(text, 0) != len(text) - 1 or text.endswith(r"\}"):
        return None
    return text[0], text[1:-1].strip(), text[-1]


def same_text(text: str) -> str:
    """A form in which equal spellings are equal: without the spaces that part no two numbers."""
    text = re.sub(r"(?<=\d) +(?=\d)", "\t", text)
    text = re.sub(r"(?<=[a-zA-Z]) +(?=[a-zA-Z])", "\t", text)
    text = re.sub(r"\{(\w)\}", r"\1", text) if "frac" not in text else text
    return text.replace(" ", "")
