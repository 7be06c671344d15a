"""Chat templates made to hurt end in one line; those that models come with render."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from r1.text.template_sandbox import render_template

MESSAGES = [{"role": "user", "content": "Hello there"}, {"role": "assistant", "content": "Hi"}]
NS = "{% set ns = namespace(x='ab', l=[], n=7) %}"

HOSTILE = {
    # Loops.
    "range of 1e9": "{% for i in range(10**9) %}{% endfor %}",
    "nested loops": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
    "loops over the text": "{% set t = messages[0].content * 300 %}"
    + "{% for a in t %}{% for b in t %}{% for c in t %}{% endfor %}{% endfor %}{% endfor %}",
    "a macro that calls itself": "{% macro a() %}{{ a() }}{{ a() }}{% endmacro %}{{ a() }}",
    "a macro in a loop": "{% macro a(n) %}{% for i in range(99) %}{{ a(n) }}{% endfor %}"
    "{% endmacro %}{{ a(1) }}",
    "a recursive loop": "{% for a in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
    "a list compared": NS + "{% for i in range(60) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}",
    "a dict in a dict": NS
    + "{% for i in range(60) %}{% set ns.l = {'a': ns.l, 'b': ns.l} %}{% endfor %}{{ ns.l }}",
    "arguments in a tuple": NS + "{% macro a() %}{% set ns.l = varargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ a(ns.l, ns.l) }}{% endfor %}",
    "arguments in a dict": NS + "{% macro a() %}{% set ns.l = kwargs %}{% endmacro %}"
    "{% for i in range(60) %}{{ a(b=ns.l, c=ns.l) }}{% endfor %}",
    "dict of dicts": NS
    + "{% for i in range(60) %}{% set ns.l = dict(a=ns.l, b=ns.l) %}{% endfor %}",
    "namespaces printed": NS
    + "{% for i in range(60) %}{% set ns.l = namespace(a=ns.l, b=ns.l) %}{% endfor %}{{ ns.l }}",
    # Texts.
    "times": "{{ 'a' * 10**9 }}",
    "times a list": "{{ [1] * 10**9 }}",
    "times a text on the right": "{{ 10**9 * 'a' }}",
    "plus": NS + "{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "concat": NS + "{% for i in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "list plus": NS + "{% for i in range(99) %}{% set ns.l = ns.l + ns.l + [1] %}{% endfor %}",
    "block": NS + "{% for i in range(99) %}{% set b %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = b %}{% endfor %}",
    "slices kept": NS + "{% set t = 'a' * 900000 %}"
    "{% for i in range(9999) %}{% set ns.l = ns.l + [t[1:]] %}{% endfor %}",
    "output": "{% set t = 'a' * 900000 %}{% for i in range(9999) %}{{ t }}{% endfor %}",
    "replace": "{% set t = 'a' * 90000 %}{{ t | replace('a', t) }}",
    "replace method": "{% set t = 'a' * 90000 %}{{ t.replace('a', t) }}",
    "join": "{% set t = 'a' * 90000 %}{{ t | join(t) }}",
    "join method": "{% set t = 'a' * 90000 %}{{ t.join(t) }}",
    "join of a map": "{% set t = 'a' * 90000 %}{{ t.join(t | map('upper')) }}",
    "center": "{{ 'a'.center(10**9) }}",
    "ljust": "{{ 'a'.ljust(1000000000) }}",
    "zfill": "{{ 'a'.zfill(1000000000) }}",
    "expandtabs": "{{ '\t'.expandtabs(1000000000) }}",
    "indent": "{{ 'a\nb' | indent(1000000000) }}",
    "indent a text": "{% set t = 'a\n' * 9000 %}{{ t | indent(t) }}",
    "tojson indent": "{{ messages | tojson(indent=1000000000) }}",
    "tojson of lists": NS + "{% set t = 'a' * 90000 %}{{ ([t] * 90000) | tojson }}",
    "string of lists": "{% set t = 'a' * 90000 %}{{ ([t] * 9000) | string }}",
    "format": "{{ '{:>1000000000}'.format(1) }}",
    "format through attr": "{{ ('{:>1000000000}'|attr('format'))(1) }}",
    "format operator": "{{ '%1000000000d' % 1 }}",
    "date": "{{ strftime_now('%1000000000d') }}",
    # Numbers.
    "power": "{{ 10**10**10 }}",
    "power of names": NS + "{{ ns.n ** 10000000 ** ns.n }}",
    "product": NS + "{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    # Out of the sandbox.
    "class": "{{ messages.__class__.__mro__ }}",
    "class by attr": "{{ (messages|attr('__class__')).__mro__ }}",
    "class by item": "{{ messages['__class__'].__mro__[1] }}",
    "globals": "{{ raise_exception.__globals__.os }}",
    "namespace": "{{ namespace.__init__.__globals__['os'].system('true') }}",
    "budget": "{{ ''|r1_step.__globals__ }}",
    "self": "{{ self._TemplateReference__context.environment.filters.clear() }}",
    "append": "{{ messages.append(1) }}",
    "clear": "{{ messages[0].clear() }}",
    "import": "{% import 'os' as os %}",
    "include": "{% include '/etc/passwd' %}",
    "lipsum": "{{ lipsum(n=1000000000) }}",
    "round": "{{ 1|round(1000000000) }}",
    # Sources.
    "broken": "{% if %}",
    "nested brackets": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "nested loops of source": "{% for a in b %}" * 400 + "{% endfor %}" * 400,
    "nested filters": "{{ a" + "|upper" * 400 + " }}",
    "nested attributes": "{{ a" + ".b" * 400 + " }}",
    "long": "a" * 10**6,
    "refuses": "{{ raise_exception('no\nway') }}",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_template_is_refused(
    bounded: Callable[[], AbstractContextManager[None]], kind: str
) -> None:
    with bounded(), pytest.raises(ValueError, match="the chat template") as caught:
        render_template(HOSTILE[kind], MESSAGES, eos_token="</s>")
    message = str(caught.value)
    assert "\n" not in message and len(message) < 300


def test_another_template_is_not_charged_for_it() -> None:
    with pytest.raises(ValueError, match="does not come to an end"):
        render_template(HOSTILE["nested loops"], MESSAGES)
    assert render_template("{{ messages[1].content }}", MESSAGES) == "Hi"


PLAIN = {
    "{% for m in messages %}{{ loop.index0 ~ m['role'] ~ loop.last }}{% endfor %}": (
        "0userFalse1assistantTrue"
    ),
    "{% for m in messages[::-1] %}{{ m.content[:2] }}{% endfor %}": "HiHe",
    "{% for m in messages if m.role == 'user' %}{{ m.content|upper }}{% else %}x{% endfor %}": (
        "HELLO THERE"
    ),
    "{% for k, v in {'a': 1, 'b': [2, 3]}.items() %}{{ k }}={{ v }};{% endfor %}": "a=1;b=[2, 3];",
    "{{ messages[0]|tojson }}": '{"role": "user", "content": "Hello there"}',
    "{{ {'b': '<é>', 'a': 1}|tojson(indent=2) }}": '{\n  "b": "<é>",\n  "a": 1\n}',
    "{{ {'b': 2, 'a': 1}|tojson(sort_keys=true, separators=(',', ':')) }}": '{"a":1,"b":2}',
    "{{ ['a', 'b', 1]|join(', ') }}|{{ '-'.join(['x', 'y']) }}": "a, b, 1|x-y",
    "{{ 'a-b-c'.replace('-', '--') }}{{ 'a-b'|replace('-', '+') }}": "a--b--ca+b",
    "{{ ' a '.strip() }}{{ 'a</think>b'.split('</think>')[-1] }}": "ab",
    "{{ tools is defined }}{{ tools|default('none') }}{% if tools %}x{% endif %}": "Falsenone",
    "{% macro twice(x) %}{{ x }}{{ x }}{% endmacro %}{{ twice('ab') }}": "abab",
    "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 2 %}{% endfor %}"
    "{{ ns.n * 3 ** 2 }} {{ ns.n % 3 }}": "36 1",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i > 3 %}{% break %}{% endif %}"
    "{{ i }}{% endfor %}": "013",
    "{{ messages|map(attribute='role')|list }}": "['user', 'assistant']",
    "{{ messages|selectattr('role', 'equalto', 'user')|list|length }}": "1",
    "{% set x %}a{{ 1 }}{% endset %}{{ x }}": "a1",
    "a {% generation %}{{ messages[1].content }}{% endgeneration %} b": "a Hi b",
    "{{ strftime_now('%Y') | length }}{{ messages[0].content.startswith('H') }}": "4True",
    "{{ 'a\nb'|indent(4) }}": "a\n    b",
}


@pytest.mark.parametrize("template", PLAIN)
def test_what_templates_do_works(template: str) -> None:
    assert render_template(template, MESSAGES) == PLAIN[template]


def test_a_long_conversation_is_within_the_budget() -> None:
    template = (
        "{% for m in messages %}{% if messages[loop.index0 - 1:]|length > 1 %}"
        "{{ '<|' ~ m.role ~ '|>' + m.content|trim + '\n' }}{% endif %}{% endfor %}"
    )
    messages = [{"role": "user", "content": "word " * 2000}] * 1000
    assert len(render_template(template, messages)) > 9_000_000
