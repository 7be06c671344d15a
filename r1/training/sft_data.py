"""Rows of text into token sequences with their targets, checked before training starts.

A row is one of

- `{"prompt": text or messages, "completion": text}`, and optionally `"style"`;
- `{"messages": [...]}`: every assistant turn is trained on, each after the history
  that it would see in use (old thoughts dropped, as the chat template does it);
- `{"text": text}`: all of it is trained on (pretraining).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from r1.records import Message
from r1.tasks.row_files import Row, read_rows
from r1.text.chat_template import Prompt, encode_chat, parse_messages
from r1.text.prompts import PromptStyle, build_prompt, encode_completion
from r1.text.reasoning import THINK_OPEN
from r1.text.tokenizer import Tokenizer
from r1.training.loop import EncodedRow, LoopConfig
from r1.training.packing import TokenSequence

TrainOn = Literal["assistant", "all"]

_NUM_EXAMPLES = 3


class DataError(ValueError):
    """Rows that cannot be trained on; its text counts them and shows the first."""


@dataclass(frozen=True)
class EncodedRows:
    """A data set as token sequences.

    `num_too_long` rows were left out for `max_length`; `report` says so in one line, or
    is empty.
    """

    rows: tuple[EncodedRow, ...]
    num_too_long: int = 0
    report: str = ""

    @property
    def num_targets(self) -> int:
        return sum(sequence.num_targets for row in self.rows for sequence in row.sequences)

    def split_off(self, fraction: float, seed: int) -> tuple[EncodedRows, EncodedRows]:
        """(the rest, a random part of about `fraction`), both in the rows' own order."""
        num_held_out = round(len(self.rows) * fraction)
        order = np.random.default_rng(seed).permutation(len(self.rows))
        held_out = set(order[:num_held_out].tolist())
        parts = [
            tuple(row for index, row in enumerate(self.rows) if (index in held_out) == is_held_out)
            for is_held_out in (False, True)
        ]
        return replace(self, rows=parts[0]), EncodedRows(parts[1])


def load_rows(data: Path | Iterable[Mapping[str, Any]] | None) -> list[Row]:
    """Rows of a JSONL, JSON, CSV or Parquet file, or of any iterable of mappings.

    Raises ValueError when there is no data, or no row in it.
    """
    if data is None:
        raise DataError("no training data: set `data` to a JSONL or Parquet file")
    if isinstance(data, Path):
        rows, where = read_rows(data), str(data)
    else:
        rows = [Row(f"row {number}", row) for number, row in enumerate(data, start=1)]
        where = "the given rows"
    if not rows:
        raise DataError(f"{where}: no rows to train on")
    return rows


EncodeRow = Callable[[Mapping[str, Any]], EncodedRow]


def encode_rows(rows: Sequence[Row], encode: EncodeRow, max_length: int) -> EncodedRows:
    """Encode every row; rows with a sequence above `max_length` tokens are left out.

    Raises DataError, with the number of bad rows and the first of them, when `encode`
    raises ValueError for any, and when no row is short enough.
    """
    encoded: list[EncodedRow] = []
    problems: list[str] = []
    too_long: list[str] = []
    for row in rows:
        try:
            encoded_row = encode(row.data)
        except ValueError as error:
            problems.append(f"{row.location}: {error}")
            continue
        longest = max(map(len, encoded_row.sequences))
        if longest > max_length:
            too_long.append(f"{row.location}: {longest} tokens")
        else:
            encoded.append(encoded_row)
    if problems:
        raise DataError(_report(f"{len(problems)} of {len(rows)} rows cannot be used", problems))
    report = ""
    if too_long:
        what = f"{len(too_long)} of {len(rows)} rows are longer than max_length = {max_length}"
        report = _report(f"{what} tokens and left out", too_long)
    if not encoded:
        raise DataError(report)
    return EncodedRows(tuple(encoded), len(too_long), report)


def load_train_and_held_out(
    config: LoopConfig, rows: Iterable[Mapping[str, Any]] | None, encode: EncodeRow
) -> tuple[EncodedRows, EncodedRows]:
    """Training rows, from `rows` or `config.data`, and the held-out rows of the config.

    Raises DataError as `load_rows` and `encode_rows` do; warns of rows left out.
    """
    data = encode_rows(load_rows(config.data if rows is None else rows), encode, config.max_length)
    if data.report:
        logging.getLogger(__name__).warning(data.report)
    train, held_out = data.split_off(config.eval_fraction, config.seed)
    if config.eval_data is not None:
        held_out = encode_rows(load_rows(config.eval_data), encode, config.max_length)
    if not train.rows:
        raise DataError(f"eval_fraction = {config.eval_fraction} leaves no row to train on")
    return train, held_out


def data_summary(train: EncodedRows, held_out: EncodedRows) -> dict[str, Any]:
    """What a run keeps about its data, for `data.json`."""
    return {
        "num_rows": len(train.rows),
        "num_target_tokens": train.num_targets,
        "num_held_out": len(held_out.rows),
        "num_too_long": train.num_too_long,
        "report": train.report,
    }


def _report(summary: str, examples: Sequence[str]) -> str:
    more = "; ..." if len(examples) > _NUM_EXAMPLES else ""
    return f"{summary}: {'; '.join(examples[:_NUM_EXAMPLES])}{more}"


def encode_sft_row(
    tokenizer: Tokenizer, row: Mapping[str, Any], *, style: PromptStyle, train_on: TrainOn
) -> EncodedRow:
    """The sequences of one row; ValueError says what is missing, empty or of a wrong type."""
    if "text" in row:
        # The whole text is ours to shape, so its special tokens are tokens.
        ids = tokenizer.encode(text_field(row, "text"), allow_special=True)
        whole = TokenSequence.of((), (*tokenizer.prefix_ids, *ids, tokenizer.eos_id))
        return EncodedRow((whole,))
    if "messages" in row:
        pairs = _assistant_turns(row)
    else:
        text_field(row, "completion")
        pairs = [(row.get("prompt"), row["completion"])]
    sequences = []
    for prompt, completion in pairs:
        encoded = encode_prompt(tokenizer, prompt, row_style(row, style), completion)
        reply_ids = encode_completion(tokenizer, encoded, completion)
        if train_on == "all":
            sequences.append(TokenSequence.of((), (*encoded.ids, *reply_ids)))
        else:
            sequences.append(TokenSequence.of(encoded.ids, reply_ids))
    return EncodedRow(tuple(sequences))


def encode_prompt(tokenizer: Tokenizer, prompt: Any, style: PromptStyle, reply: str) -> Prompt:
    """The prompt that `reply` answers: text, or messages that end before the reply.

    In chat style `<think>` is forced exactly when the reply begins with it, so that a
    reply without a thought is trained after a prompt without an opening.
    """
    if isinstance(prompt, str) and style == "chat":
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(prompt, str):
        return build_prompt(tokenizer, prompt, style)
    if not isinstance(prompt, (list, tuple)) or not prompt:
        raise ValueError(f'"prompt" must be text or a list of messages, not {prompt!r}')
    messages: list[Message] = parse_messages(prompt)
    if style == "chat":
        return encode_chat(tokenizer, messages, force_think=reply.startswith(THINK_OPEN))
    if len(messages) != 1 or messages[0].role != "user":
        raise ValueError(f'style "{style}" takes one user message, not {len(messages)} messages')
    return build_prompt(tokenizer, messages[0].content, style)


def row_style(row: Mapping[str, Any], default: PromptStyle) -> PromptStyle:
    """The row's own `style`, or the default; ValueError for an unknown one."""
    style = row.get("style") or default
    if style not in get_args(PromptStyle):
        raise ValueError(f'unknown style "{style}"; choose from {", ".join(get_args(PromptStyle))}')
    return style


def text_field(row: Mapping[str, Any], name: str) -> str:
    """A field that must hold text; ValueError when it is missing, empty or no text."""
    if name not in row:
        found = ", ".join(row) or "none"
        raise ValueError(f'no field "{name}" (fields: {found})')
    value = row[name]
    if not isinstance(value, str):
        raise ValueError(f'"{name}" must be text, not {type(value).__name__}')
    if not value.strip():
        raise ValueError(f'"{name}" is empty')
    return value


def _assistant_turns(row: Mapping[str, Any]) -> list[tuple[Any, str]]:
    turns = row["messages"]
    if not isinstance(turns, (list, tuple)):
        raise ValueError(f'"messages" must be a list, not {type(turns).__name__}')
    messages = parse_messages(turns)
    places = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if not places or places[0] == 0:
        raise ValueError('"messages" needs an assistant turn after a user turn')
    for index in places:
        if not messages[index].content.strip():
            raise ValueError(f"messages[{index}], an assistant turn, is empty")
    return [(turns[:index], messages[index].content) for index in places]
