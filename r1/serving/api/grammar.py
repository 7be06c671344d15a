"""The form of an answer as a grammar: JSON, JSON of a schema, or calls of given tools.

llguidance computes which tokens may come next. Its limits bound the time and memory of a
hostile schema; compiling leaves the interpreter lock free, so it may run in a thread.
"""

from __future__ import annotations

import json

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from r1.serving.api.model_side import AnswerForm
from r1.text.tokenizer import Tokenizer
from r1.text.tool_calls import CALL_BEGIN, CALL_END, CALL_SEPARATOR, CALLS_BEGIN, CALLS_END

_LIMITS = {"max_grammar_size": 100_000, "max_lexer_states": 50_000, "initial_lexer_fuel": 500_000}
# JSON on one line or indented; no white space without end, which small models fall into.
_JSON = {"whitespace_pattern": r"(\x20|\x0A\x20{0,16})?"}


class GrammarCompiler:
    """Compiles forms for one tokenizer; raises ValueError for a schema that cannot be."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._llguidance = LLTokenizer(
            tokenizer.backend.to_str(), n_vocab=vocab_size, eos_token=list(tokenizer.eos_ids)
        )

    def compile(self, form: AnswerForm) -> AnswerGrammar:
        """The grammar of one answer."""
        if form.tools:
            text = self._tool_grammar(form)
        else:
            schema = {"type": "object"} if form.schema is None else form.schema
            text = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_JSON)  # pyright: ignore[reportArgumentType]
        limits = LLParserLimits(**_LIMITS, verbose_errors=False)  # pyright: ignore[reportArgumentType]
        matcher = LLMatcher(self._llguidance, text, log_level=0, limits=limits)
        if matcher.is_error():
            raise ValueError(f"the schema cannot be used: {_line(matcher.get_error())}")
        return AnswerGrammar(matcher, self._vocab_size, self._tokenizer.eos_id)

    def _tool_grammar(self, form: AnswerForm) -> str:
        calls = "call" if form.is_one_call else 'call ("\\n" call)*'
        rules = [f"start: {self._tag(CALLS_BEGIN)} {calls} {self._tag(CALLS_END)}"]
        choices = []
        for index, tool in enumerate(form.tools):
            function = tool["function"]
            choices.append(
                f"({_text(function['name'] + chr(10) + '```json' + chr(10))} json_{index})"
            )
            schema = function.get("parameters") or {"type": "object"}
            rules.append(f"json_{index}: %json {json.dumps({**schema, 'x-guidance': _JSON})}")
        opening = f'{self._tag(CALL_BEGIN)} "function" {self._tag(CALL_SEPARATOR)}'
        closing = f"{_text(chr(10) + '```')} {self._tag(CALL_END)}"
        rules.append(f"call: {opening} ({' | '.join(choices)}) {closing}")
        return "\n".join(rules)

    def _tag(self, tag: str) -> str:
        """A tag as its token, or as text where the vocabulary has none."""
        token_id = self._tokenizer.token_id(tag)
        return _text(tag) if token_id is None else f"<[{token_id}]>"


class AnswerGrammar:
    """One answer under a grammar. When it is complete, or fails, only EOS may follow."""

    def __init__(self, matcher: LLMatcher, vocab_size: int, eos_id: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._end = np.zeros(vocab_size, bool)
        self._end[eos_id] = True

    def accept(self, token_id: int) -> None:
        """Follow a token of the answer."""
        if not self._matcher.is_stopped():
            self._matcher.consume_token(token_id)

    def allowed(self) -> np.ndarray:
        """Bool [V] of the tokens that may come next."""
        if self._matcher.is_stopped() or self._matcher.is_error():
            return self._end
        bias = np.frombuffer(self._matcher.compute_logit_bias(), np.uint8)[: self._vocab_size]
        mask = bias != 0
        return mask if mask.any() else self._end


def _text(text: str) -> str:
    """A string of llguidance's Lark."""
    return json.dumps(text, ensure_ascii=False)


def _line(message: str) -> str:
    return " ".join(message.split())[:300]
