"""Raw replies with what they must become, whatever they are cut into."""

from __future__ import annotations

from dataclasses import dataclass

T = True  # the prompt ends with a forced <think>
F = False


@dataclass(frozen=True, slots=True)
class ReplyCase:
    """`is_open`: the prompt has opened the thought already."""

    is_open: bool
    raw: str
    thought: str
    answer: str


REPLY_CASES = {
    # the published form: forced open, only </think> seen
    "closed": ReplyCase(T, "I add.\n</think>\n\n42", "I add.", "42"),
    "closed on one line": ReplyCase(T, "a</think>b", "a", "b"),
    "empty thought": ReplyCase(T, "\n</think>\n\n42", "", "42"),
    "nothing before the tag": ReplyCase(T, "</think>42", "", "42"),
    "never closed": ReplyCase(T, "I think and think", "I think and think", ""),
    "closed on nothing": ReplyCase(T, "done</think>", "done", ""),
    "closed on white space": ReplyCase(T, "done</think>\n\n  \n", "done", ""),
    "empty": ReplyCase(T, "", "", ""),
    "white space only": ReplyCase(T, " \n ", "", ""),
    "limit within the tag": ReplyCase(T, "abc</thi", "abc</thi", ""),
    "limit at the tag's first sign": ReplyCase(T, "a < b <", "a < b <", ""),
    # the model repeats the opening that was forced
    "opened twice": ReplyCase(T, "<think>\na</think>b", "a", "b"),
    "opened twice, after a line": ReplyCase(T, "\n<think>a</think>b", "a", "b"),
    "opened later is text": ReplyCase(T, "x <think> y</think>z", "x <think> y", "z"),
    # both tags by the model (R1-0528)
    "both tags": ReplyCase(F, "<think>a</think>b", "a", "b"),
    "both tags, white space": ReplyCase(F, "\n <think>\na\n</think>\n\nb\n", "a", "b"),
    "both tags, empty thought": ReplyCase(F, "<think>\n\n</think>\n\nb", "", "b"),
    "opened, never closed": ReplyCase(F, "<think>a", "a", ""),
    "only an opening": ReplyCase(F, "<think>", "", ""),
    "opened three times": ReplyCase(F, "<think><think>a</think>b", "a", "b"),
    # no thought
    "no tag": ReplyCase(F, "just an answer", "", "just an answer"),
    "no tag, lines": ReplyCase(F, "one\n\ntwo\n", "", "one\n\ntwo"),
    "a closing tag without an opening is text": ReplyCase(F, "a</think>b", "", "a</think>b"),
    "half an opening is text": ReplyCase(F, "<thin air", "", "<thin air"),
    "only half an opening": ReplyCase(F, "<thi", "", "<thi"),
    "opening in mid-answer": ReplyCase(F, "use <think> here", "", "use <think> here"),
    "opening in other letters": ReplyCase(F, "<THINK>a</THINK>b", "", "<THINK>a</THINK>b"),
    # doubled and missing
    "closed twice": ReplyCase(T, "a</think>b</think>c", "a", "b</think>c"),
    "closed twice at once": ReplyCase(T, "a</think></think>b", "a", "</think>b"),
    "a second block stays text": ReplyCase(
        T, "a</think>b <think>c</think> d", "a", "b <think>c</think> d"
    ),
    "tags inside out": ReplyCase(T, "a</think><think>b", "a", "<think>b"),
    # in code
    "tag in a fence of the answer": ReplyCase(
        T, "a</think>```\n</think>\n```", "a", "```\n</think>\n```"
    ),
    "tag in code of the answer": ReplyCase(T, "a</think>`<think>`", "a", "`<think>`"),
    "the first closing tag counts, in a fence too": ReplyCase(
        T, "```\n</think>\n``` b", "```", "``` b"
    ),
    "almost tags": ReplyCase(
        T, "< /think> </ think> </thinks></think>b", "< /think> </ think> </thinks>", "b"
    ),
    "html": ReplyCase(T, "<b>x</b></think><i>y</i>", "<b>x</b>", "<i>y</i>"),
    "a lone < before the tag": ReplyCase(T, "a <</think>b", "a <", "b"),
    "the tag begun twice": ReplyCase(T, "a </th</think>b", "a </th", "b"),
    # R1-Zero's answer tags
    "answer tags": ReplyCase(T, "a</think> <answer>42</answer>", "a", "42"),
    "answer tag not closed": ReplyCase(T, "a</think><answer>42", "a", "42"),
    "after the answer's end": ReplyCase(T, "a</think><answer>4</answer> bye", "a", "4"),
    "answer tag in mid-answer": ReplyCase(T, "a</think>so <answer>", "a", "so <answer>"),
    "answer tag in the thought": ReplyCase(
        T, "<answer>1</answer></think>2", "<answer>1</answer>", "2"
    ),
    # several bytes, right to left, control tokens as text
    "Chinese": ReplyCase(T, "先想一想。</think>答案是四十二。", "先想一想。", "答案是四十二。"),
    "emoji": ReplyCase(T, "🤔🤔</think>👍🏽", "🤔🤔", "👍🏽"),
    "a user tag as text": ReplyCase(T, "<｜User｜></think><｜User｜>", "<｜User｜>", "<｜User｜>"),
    "inner spaces stay": ReplyCase(T, "a  b\n\n c</think>d  e", "a  b\n\n c", "d  e"),
}
