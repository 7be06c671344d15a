"""The status of each test in the output of a repository's test command.

Read as the official harness does (github.com/SWE-bench/SWE-bench, MIT:
swebench/harness/log_parsers/python.py), because the tests' names in the data are those that
it finds.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_STATUSES = ("PASSED", "FAILED", "ERROR", "SKIPPED", "XFAIL")
_ANY_STATUS = "|".join(_STATUSES)
_STATUS_FIRST = re.compile(rf"({_ANY_STATUS})\s+(\S+)")
_STATUS_LAST = re.compile(rf"(\S+)\s+({_ANY_STATUS})(?:\s|$)")
_SKIP_COUNT = re.compile(r"\[\d+\]")
_OPTION = re.compile(r"(.*?)\[(.*)\]")
_COLOUR = re.compile(r"\[\d+m")
_CONTROL = {code: None for code in range(1, 32)}
# A test's result that other output of Django's tests has cut off its line.
_DJANGO_CUT = re.compile(
    r"^(.*?)\s\.\.\.\s(?:Testing against Django installed in (?s:.*?) silenced\)\."
    r"|Internal Server Error: /.*/|System check identified no issues \(0 silenced\))\nok$",
    re.MULTILINE,
)

Statuses = dict[str, str]


def passed_tests(repo: str, log: str) -> tuple[set[str], set[str]]:
    """The names of the tests that passed (or failed as expected), and of those skipped."""
    statuses = _PARSERS.get(repo, _pytest)(log)
    passed = {name for name, status in statuses.items() if status in ("PASSED", "XFAIL")}
    return passed, {name for name, status in statuses.items() if status == "SKIPPED"}


def _pytest(log: str, clean: Callable[[str], str] = str) -> Statuses:
    found: Statuses = {}
    for line in map(clean, log.split("\n")):
        if first := _STATUS_FIRST.match(line):
            status, name = first.groups()
            if status != "SKIPPED" or not _SKIP_COUNT.match(name):
                found[name] = status
        elif last := _STATUS_LAST.match(line):
            found[last[1]] = last[2]
    return found


def _coloured_pytest(log: str) -> Statuses:
    return _pytest(log, lambda line: _COLOUR.sub("", line).translate(_CONTROL))


def _pytest_with_paths(log: str) -> Statuses:
    """Without the folders of a path that is a test's parameter."""
    return {_short_option(name): status for name, status in _pytest(log).items()}


def _short_option(name: str) -> str:
    found = _OPTION.search(name)
    if found is None:
        return name
    test, option = found.groups()
    if option.startswith("/") and not option.startswith("//") and "*" not in option:
        option = f"/{option.rsplit('/', 1)[-1]}"
    return f"{test}[{option}]"


def _matplotlib(log: str) -> Statuses:
    found: Statuses = {}
    for line in log.split("\n"):
        named = line.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3")
        words = named.split()
        if named.startswith(_STATUSES) and len(words) > 1:
            found[words[1]] = words[0]
    return found


def _seaborn(log: str) -> Statuses:
    found: Statuses = {}
    for line in log.split("\n"):
        words = line.split()
        if line.startswith(("FAILED", "PASSED")) and len(words) > 1:
            found[words[1]] = words[0]
        elif len(words) > 1 and words[1] == "PASSED":
            found[words[0]] = "PASSED"
    return found


def _sympy(log: str) -> Statuses:
    failed = re.findall(r"_+ (.*)\.py:(.*) _+", log)
    found: Statuses = {f"{path}.py:{test}": "FAILED" for path, test in failed}
    endings = {" E": "ERROR", " F": "FAILED", " ok": "PASSED"}
    for line in map(str.strip, log.split("\n")):
        for ending, status in endings.items():
            if line.startswith("test_") and line.endswith(ending):
                found[line.split()[0]] = status
    return found


def _django(log: str) -> Statuses:
    found: Statuses = {}
    running = None
    endings = {
        **dict.fromkeys((" ... ok", " ... OK", " ...  OK"), "PASSED"),
        " ... FAIL": "FAILED",
        " ... ERROR": "ERROR",
    }
    for line in map(str.strip, log.split("\n")):
        if "--version is equivalent to version" in line:
            found["--version is equivalent to version"] = "PASSED"
        if " ... " in line:
            running = line.split(" ... ")[0]
        for ending, status in endings.items():
            if line.endswith(ending):
                found[_django_name(line.removesuffix(ending))] = status
        if " ... skipped" in line:
            found[line.split(" ... skipped")[0]] = "SKIPPED"
        if line.startswith(("FAIL:", "ERROR:")) and len(line.split()) > 1:
            found[line.split()[1]] = "FAILED" if line.startswith("FAIL:") else "ERROR"
        if line.startswith("ok") and running is not None:
            found[running] = "PASSED"
    found.update(dict.fromkeys(_DJANGO_CUT.findall(log), "PASSED"))
    return found


def _django_name(text: str) -> str:
    is_cut = text.startswith("Applying sites.0002_alter_domain_unique...test_no_migrations")
    return text.split("...", 1)[-1].strip() if is_cut else text


_PARSERS: dict[str, Callable[[str], Statuses]] = {
    "django/django": _django,
    "sympy/sympy": _sympy,
    "matplotlib/matplotlib": _matplotlib,
    "mwaskom/seaborn": _seaborn,
    "psf/requests": _pytest_with_paths,
    "pylint-dev/pylint": _pytest_with_paths,
    "astropy/astropy": _coloured_pytest,
    "scikit-learn/scikit-learn": _coloured_pytest,
    "sphinx-doc/sphinx": _coloured_pytest,
}
