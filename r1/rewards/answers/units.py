"""Units behind a value: what they measure and how large they are.

A unit that only one side states is taken as given by the question. Two stated units must
measure the same thing, and the quantities must then be equal: 5 cm is 0.05 m and is not 5 m.
Nouns that are no units ("5 apples") must be the same noun when both sides have one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

_LENGTH, _MASS, _TIME, _ANGLE = "length", "mass", "time", "angle"


@dataclass(frozen=True, slots=True)
class Unit:
    """Powers of what is measured, and the size in base units (metre, gram, second, degree)."""

    powers: tuple[tuple[str, int], ...]
    size: Fraction = Fraction(1)
    noun: str | None = None


def _table(
    rows: str, dimension: str, power: int = 1
) -> dict[str, tuple[tuple[tuple[str, int], ...], Fraction]]:
    """Lines of `size: name, name` as {name: (powers, size)}."""
    table = {}
    for row in rows.split(";"):
        size, _, names = row.partition(":")
        for name in names.split(","):
            table[name.strip()] = (((dimension, power),), Fraction(size.strip()))
    return table


_UNITS = {
    **_table(
        "1/1000: mm, millimeter, millimetre, 毫米; 1/100: cm, centimeter, centimetre, 厘米, 公分;"
        "1/10: dm, decimeter, decimetre, 分米; 1: m, meter, metre, 米; 1000: km, kilometer,"
        "kilometre, 千米, 公里; 127/5000: inch, inches, in; 381/1250: ft, foot, feet;"
        "1143/1250: yd, yard; 201168/125: mi, mile; 1/1000000: micrometer, \\mu m;"
        "1/1000000000: nm, nanometer; 1/10000000000: angstrom, \\AA;"
        "1/1000000000000: pm, picometer; 1/1000000000000000: fm;"
        "30856775814913673: parsec, pc; 30856775814913673000: kpc, kiloparsec;"
        "30856775814913673000000: Mpc, megaparsec; 149597870700: AU, au;"
        "9460730472580800: ly, lightyear",
        _LENGTH,
    ),
    **_table("10000: hectare, ha, 公顷; 316160658/78125: acre", _LENGTH, 2),
    **_table(
        "1/1000: L, l, liter, litre, 升; 1/1000000: mL, ml, milliliter, millilitre, cc, 毫升;"
        "473176473/125000000000: gallon, gal",
        _LENGTH,
        3,
    ),
    **_table(
        "1: g, gram, 克; 1000: kg, kilogram, 千克, 公斤; 1/1000: mg, milligram, 毫克;"
        "1000000: tonne, 吨; 500: 斤; 45359237/100000: lb, lbs, pound; 45359237/1600000: oz, ounce",
        _MASS,
    ),
    **_table(
        "1: s, sec, second, 秒; 60: min, mins, minute, 分钟, 分; 3600: h, hr, hrs, hour, 小时, 时;"
        "86400: day, days, 天, 日; 604800: week, wk, 周, 星期; 1/1000: ms, millisecond;"
        "2629746: month, 个月, 月; 31556952: year, yr, yrs, 年; 1/1000000: microsecond, \\mu s;"
        "1/1000000000: ns, nanosecond; 31556952000000: Myr; 31556952000000000: Gyr",
        _TIME,
    ),
    **_table(
        "1: degree, deg, 度, degs; 1/60: arcminute, arcmin; 1/3600: arcsecond, arcsec", _ANGLE
    ),
    **_table("1: cent, cents, ¢, 分钱; 100: dollar, $, usd, USD, bucks", "dollar"),
    **_table("1: 元, 块, yuan, RMB, 人民币; 1/10: 角, jiao", "yuan"),
    **_table("1: €, euro, EUR", "euro"),
    **_table("1: £, GBP", "sterling"),
    **_table("1: ₹, rupee, rs, Rs", "rupee"),
    **_table("1: K, kelvin", "temperature"),
    **_table("1: ℃, celsius, Celsius", "celsius"),
    **_table("1: ℉, fahrenheit, Fahrenheit", "fahrenheit"),
    **_table("1: Hz, hertz; 1000: kHz; 1000000: MHz; 1000000000: GHz", _TIME, -1),
    **_table(
        "1: J, joule, joules; 1000: kJ, kilojoule; 1000000: MJ; 1/10000000: erg;"
        "523/125: cal, calorie; 4184: kcal; 3600000: kWh",
        "energy",
    ),
    **_table("1: N, newton, newtons; 1000: kN; 1/100000: dyne, dyn", "force"),
    **_table("1: W, watt; 1000: kW, kilowatt", "power"),
    **_table("1: V, volt", "voltage"),
    **_table("1: mol, mole", "amount"),
    **_table("1: M, molar; 1/1000: mM", "molarity"),
    **_table("1: eV; 1000: keV; 1000000: MeV; 1000000000: GeV", "electronvolt"),
    **_table("1: Pa, pascal; 1000: kPa; 1000000: MPa; 101325: atm; 100000: bar", "pressure"),
    **_table("1: tesla; 1/10000: gauss", "magnetism"),
    **_table("1: A, amp, ampere; 1/1000: mA", "current"),
    **_table("1: coulomb", "charge"),
    **_table("1: \\Omega, ohm", "resistance"),
    **_table("1: amu", "atomic mass"),
}
_UNITS["radian"] = _UNITS["rad"] = (((("radian"), 1),), Fraction(1))
_COMPOUND = {"mph": "mi / h", "kph": "km / h", "kmph": "km / h", "kmh": "km / h", "fps": "ft / s"}
# What says nothing about the value: generic names of what is counted or measured.
_GENERIC_NAMES = """
unit units u sq total altogether each respectively approximately about
单位 个单位 个 只 件 本 人 名 条 张 支 枝 棵 辆 位 次 种 块 头 台 套 箱 袋 盒 瓶 朵 岁 道 页 步
层 间 组 根 颗 双 对 串 架 艘 匹 把 份 杯 筐 包 篇 班 题 场 段 片 排 行 列 座 家 户 面 所
枚 束 桶 盆 盘 粒 幅 册 场次
"""
_GENERIC = frozenset(_GENERIC_NAMES.split())
_QUALIFIERS = """
or and more less least most not than times many half percent negative minus plus hundred
thousand million billion trillion dozen if when where for any all some no none only either
neither both between from to through with without such that is are the integer real pi mod
modulo sqrt over squared cubed divided multiplied by at exactly base ways possible
"""
_NEVER = frozenset(_QUALIFIERS.split()) - {"possible", "ways"}
_POWER_WORDS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3, "平方": 2, "立方": 3}
_CLASSIFIER = "个"  # stands for every Chinese measure word: it counts, and measures nothing
_ADVERB = re.compile(r"\s+(?:away|long|tall|wide|high|old|deep|each|in total|total|altogether)$")
_TOKEN = re.compile(
    r"\s*(?:(?P<over>/|\bper\b|\ba\b(?=\s+[a-z]))|(?P<times>\\cdot|\*|-)|"
    r"(?P<name>\\mu [ms]|\\Omega|\\AA|[A-Za-z]+|[$€£¥₹¢℃℉]|[\u4e00-\u9fff]+)\.?"
    r"(?:\s*\^\s*\{?\s*(?P<power>-?\d)\s*\}?|(?P<digit>[23])(?!\d))?)"
)
_CHINESE_POWER = re.compile(r"(平方|立方)(\S+)")
_IN_UNIT = re.compile(r"\b(?:[Ii]n (?:units of )?|[Hh]ow many )(?=([A-Za-z\\][^,;:?()$]{0,60}))")
_MAX_UNIT_WORDS = 6
_SINGLE_LETTERS_NEED_SPACE = re.compile(r"^[A-Za-z](?![A-Za-z])")


@lru_cache(maxsize=4096)
def read_unit(text: str, *, has_space: bool = True) -> Unit | None:
    """The unit or noun that the whole text is, or None.

    One letter is a unit only behind a space: `10 m` is ten metres and `10m` ten times m.
    """
    text = _ADVERB.sub("", text.strip().removesuffix("."))
    if not text:
        return None
    if not has_space and _SINGLE_LETTERS_NEED_SPACE.match(text):
        return None
    measured = _measured(_COMPOUND.get(text, text))
    if measured is not None or not has_space:
        return measured
    return _noun(text)


def same_unit(one: Unit, other: Unit) -> Fraction | None:
    """How many of `other` are in `one`, or None when they do not measure the same."""
    if one.noun is not None or other.noun is not None:
        if "" in (one.noun, other.noun):  # "5 units" fits everything
            return Fraction(1)
        if None not in (one.noun, other.noun) and _CLASSIFIER in (one.noun, other.noun):
            return Fraction(1)
        return Fraction(1) if one.noun == other.noun else None
    return one.size / other.size if one.powers == other.powers else None


def asked_units(question: str) -> list[Unit]:
    """The units that a (tidy) question wants its answer in: "in meters per second", "in J/mol"."""
    found = []
    for match in _IN_UNIT.finditer(question):
        words = match[1].split()
        # The longest run of words that is a unit: "in meters per second as a decimal".
        for count in range(min(len(words), _MAX_UNIT_WORDS), 0, -1):
            unit = _measured(" ".join(words[:count]).rstrip(".,;:?) "))
            if unit is not None and unit.powers:
                found.append(unit)
                break
    return found


def question_units(question: str) -> list[Unit]:
    """The measures that a question names, such as the unit in "how many inches"."""
    found = []
    pattern = (
        r"(?:square |cubic |平方|立方)?"
        r"(?:(?!in\b)[A-Za-z]{2,}|厘米|毫米|千米|公里|分米|米|千克|克|吨|小时|分钟|秒)"
    )
    for word in re.findall(pattern, question):
        unit = _measured(word.lower() if word.isascii() else word)
        if unit is not None and unit.powers:
            found.append(unit)
    return found


def _measured(text: str) -> Unit | None:
    if match := _CHINESE_POWER.fullmatch(text):
        text = f"{match[2]}^{_POWER_WORDS[match[1]]}"
    powers: dict[str, int] = {}
    size = Fraction(1)
    position, sign, next_power, num_known = 0, 1, 1, 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.end() == position:
            return None
        position = match.end()
        if match["over"]:
            sign = -1
            continue
        if match["times"]:
            continue
        name = match["name"]
        if name.lower() in _POWER_WORDS:
            next_power = _POWER_WORDS[name.lower()]
            continue
        if name.lower() in ("unit", "units") and next_power > 1:
            return Unit((), Fraction(1), "")
        entry = _entry(name)
        if entry is None:
            return None
        power = sign * next_power * int(match["power"] or match["digit"] or 1)
        for dimension, exponent in entry[0]:
            powers[dimension] = powers.get(dimension, 0) + exponent * power
        size *= entry[1] ** power
        next_power, num_known = 1, num_known + 1
    if not num_known:
        return None
    return Unit(tuple(sorted((name, power) for name, power in powers.items() if power)), size)


def _entry(name: str) -> tuple[tuple[tuple[str, int], ...], Fraction] | None:
    for spelling in (name, name.lower(), name.removesuffix("s"), name.lower().removesuffix("s")):
        if spelling in _UNITS:
            return _UNITS[spelling]
    return None


def _noun(text: str) -> Unit | None:
    """What is counted: a few words of which none changes the value."""
    text = re.sub(r"^of (?:the|a|an|his|her|their|all) (?=[a-z])", "", text)
    text = re.sub(r"\^\s*\{?[23]\}?$", "", text).strip()
    if re.fullmatch(r"[\u4e00-\u9fff]{1,6}", text):
        is_classifier = text in _GENERIC or text[0] in _GENERIC
        return Unit((), Fraction(1), _CLASSIFIER if is_classifier else text)
    words = re.findall(r"[A-Za-z]+", text)
    if not re.fullmatch(r"[A-Za-z][A-Za-z '-]*(?:\([a-z ]+\))?", text) or len(words) > 5:
        return None
    lowered = [word.lower() for word in words]
    if any(word in _NEVER for word in lowered) or min(map(len, words)) < 2:
        return None
    if max(map(len, words)) < 3 and lowered != ["sq"]:
        return None
    telling = [word for word in lowered if word not in _GENERIC]
    return Unit((), Fraction(1), _stem(telling[0] if len(telling) == 1 else " ".join(telling)))


def _stem(noun: str) -> str:
    if noun.endswith("ies"):
        return noun[:-3] + "y"
    return noun[:-1] if noun.endswith("s") and not noun.endswith("ss") else noun
