from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from r1.tasks.row_files import Row
from r1.text.tokenizer import Tokenizer
from r1.training.loop import LoopConfig
from r1.training.packing import TokenSequence
from r1.training.sft_data import (
    DataError,
    encode_rows,
    encode_sft_row,
    load_rows,
    load_train_and_held_out,
)


def texts_of(tokenizer: Tokenizer, sequence: TokenSequence) -> tuple[str, str]:
    """What is only read, and what is trained on, as text."""
    ids, is_target = sequence.token_ids, sequence.is_target
    read, trained = (
        tokenizer.decode(ids[chosen].tolist(), skip_special=False)
        for chosen in (~is_target, is_target)
    )
    return read, trained


BOS, EOS = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"


@pytest.mark.parametrize(
    ("row", "read", "trained"),
    [
        (
            {"prompt": "1+1?", "completion": "<think>\neasy\n</think>\n\n2"},
            f"{BOS}<｜User｜>1+1?<｜Assistant｜><think>\n",
            f"easy\n</think>\n\n2{EOS}",
        ),
        (
            {"prompt": "Hi", "completion": "Hello"},
            f"{BOS}<｜User｜>Hi<｜Assistant｜>",
            f"Hello{EOS}",
        ),
        ({"prompt": "a", "completion": "b", "style": "plain"}, f"{BOS}a", f"b{EOS}"),
        ({"text": "abc"}, BOS, f"abc{EOS}"),
        (
            {"prompt": [{"role": "user", "content": "x"}], "completion": "y", "style": "plain"},
            f"{BOS}x",
            f"y{EOS}",
        ),
    ],
)
def test_rows_and_what_of_them_is_trained(
    tiny_tokenizer: Tokenizer, row: dict, read: str, trained: str
) -> None:
    encoded = encode_sft_row(tiny_tokenizer, row, style="chat", train_on="assistant")
    assert texts_of(tiny_tokenizer, encoded.sequences[0]) == (read, trained)
    whole = encode_sft_row(tiny_tokenizer, row, style="chat", train_on="all").sequences[0]
    assert texts_of(tiny_tokenizer, whole) == (BOS, (read + trained).removeprefix(BOS))


def test_every_assistant_turn_is_trained_after_the_history_of_use(
    tiny_tokenizer: Tokenizer,
) -> None:
    turns = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "<think>\nt\n</think>b"},
        {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d"},
    ]
    row = encode_sft_row(tiny_tokenizer, {"messages": turns}, style="chat", train_on="assistant")
    first, second = (texts_of(tiny_tokenizer, sequence) for sequence in row.sequences)
    assert first == (f"{BOS}<｜User｜>a<｜Assistant｜><think>\n", f"t\n</think>b{EOS}")
    history = f"{BOS}<｜User｜>a<｜Assistant｜>b{EOS}<｜User｜>c<｜Assistant｜>"
    assert second == (history, f"d{EOS}")


def test_special_tokens_in_a_row_stay_text_except_the_thought_tags(
    tiny_tokenizer: Tokenizer,
) -> None:
    row = {"prompt": "p<think>", "completion": "<think>\nx</think><｜User｜>"}
    (sequence,) = encode_sft_row(tiny_tokenizer, row, style="chat", train_on="assistant").sequences
    ids = sequence.token_ids.tolist()
    for token, count in (("<｜User｜>", 1), ("<think>", 1), ("</think>", 1), (EOS, 1)):
        assert ids.count(tiny_tokenizer.token_id(token)) == count


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a"}, r'no field "completion" \(fields: prompt\)'),
        ({"completion": "a"}, '"prompt" must be text or a list of messages, not None'),
        ({"prompt": "a", "completion": " \n"}, '"completion" is empty'),
        ({"prompt": "a", "completion": 3}, '"completion" must be text, not int'),
        ({"prompt": "a", "completion": "b", "style": "caht"}, 'unknown style "caht"; choose from'),
        ({"prompt": [{"role": "usr"}], "completion": "b"}, r"messages\[0\].role is 'usr'"),
        ({"messages": "hi"}, '"messages" must be a list'),
        ({"messages": [{"role": "user", "content": "a"}]}, "needs an assistant turn"),
        ({"text": ""}, '"text" is empty'),
    ],
)
def test_a_bad_row_is_named_with_its_fault(
    tiny_tokenizer: Tokenizer, row: dict, message: str
) -> None:
    encode = partial(encode_sft_row, tiny_tokenizer, style="chat", train_on="assistant")
    with pytest.raises(DataError, match=rf"1 of 1 rows cannot be used: data:7: .*{message}"):
        encode_rows([Row("data:7", row)], encode, 100)


def test_bad_rows_are_counted_and_the_first_shown(tiny_tokenizer: Tokenizer) -> None:
    encode = partial(encode_sft_row, tiny_tokenizer, style="chat", train_on="assistant")
    rows = load_rows([{"text": "a"}, *[{"txt": "b"}] * 5])
    with pytest.raises(DataError) as error:
        encode_rows(rows, encode, 100)
    assert str(error.value).startswith("5 of 6 rows cannot be used: row 2: ")
    assert str(error.value).count("no field") == 3
    assert str(error.value).endswith("; ...")


def test_long_rows_are_left_out_and_reported(tiny_tokenizer: Tokenizer) -> None:
    encode = partial(encode_sft_row, tiny_tokenizer, style="chat", train_on="assistant")
    data = encode_rows(load_rows([{"text": "abc"}, {"text": "a" * 99}]), encode, 50)
    assert (len(data.rows), data.num_too_long) == (1, 1)
    expected = "1 of 2 rows are longer than max_length = 50 tokens and left out: row 2: 101 tokens"
    assert data.report == expected
    with pytest.raises(DataError, match="2 of 2 rows are longer"):
        encode_rows(load_rows([{"text": "abcd"}] * 2), encode, 5)


def test_held_out_rows_are_a_part_or_a_file(tiny_tokenizer: Tokenizer, tmp_path: Path) -> None:
    encode = partial(encode_sft_row, tiny_tokenizer, style="plain", train_on="all")
    path = tmp_path / "eval.jsonl"
    path.write_text(json.dumps({"text": "held"}) + "\n")
    rows = [{"text": f"t{i}"} for i in range(10)]
    config = LoopConfig(output=tmp_path, model="none", eval_fraction=0.3)
    train, held_out = load_train_and_held_out(config, rows, encode)
    assert (len(train.rows), len(held_out.rows)) == (7, 3)
    again, _ = load_train_and_held_out(config, rows, encode)
    assert [r.num_tokens for r in again.rows] == [r.num_tokens for r in train.rows]
    config = LoopConfig(output=tmp_path, model="none", eval_data=path)
    train, held_out = load_train_and_held_out(config, rows, encode)
    assert (len(train.rows), len(held_out.rows)) == (10, 1)


def test_no_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="set `data`"):
        load_rows(None)
    with pytest.raises(DataError, match="no rows"):
        load_rows([])
    with pytest.raises(ValueError, match=r"missing\.jsonl"):
        load_rows(tmp_path / "missing.jsonl")
