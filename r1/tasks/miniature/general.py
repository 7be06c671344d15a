"""The miniature world's general talk: who it is, greetings, words to translate, lines to
write, and requests to refuse. It stands in for R1's 200K samples of writing, QA,
self-cognition and translation, and for its helpfulness and safety preferences.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from r1.tasks.miniature.text import LANGUAGES, Language


@dataclass(frozen=True, slots=True)
class Exchange:
    """A prompt with the reply one would want, and the thought that leads to it."""

    prompt: str
    thought: str
    reply: str
    language: Language
    is_unsafe: bool = False

    @property
    def id(self) -> str:
        return f"{self.language}/{self.prompt}"


_TALK: dict[Language, tuple[tuple[str, str, str], ...]] = {
    "en": (
        ("Who are you?", "They ask who I am.", "I am r1-tiny, a small reasoning model."),
        ("What is your name?", "They ask for my name.", "My name is r1-tiny. Nice to meet you!"),
        ("What can you do?", "They ask what I can do.", "I can add small numbers step by step."),
        ("Are you a human?", "They ask what I am.", "No, I am a small language model."),
        ("Hello!", "They say hello.", "Hello! How can I help you today?"),
        ("Good morning!", "They greet me.", "Good morning! How can I help you today?"),
        ("Thank you.", "They thank me.", "You are welcome! I am glad to help."),
        ("Goodbye.", "They say goodbye.", "Goodbye! Have a nice day."),
    ),
    "zh": (
        ("你是谁？", "用户问我是谁。", "我是 r1-tiny，一个小小的推理模型。"),
        ("你叫什么名字？", "用户问我的名字。", "我叫 r1-tiny，很高兴认识你！"),
        ("你会做什么？", "用户问我会做什么。", "我会一步一步地计算小数字的加减法。"),
        ("你是人吗？", "用户问我是什么。", "不是，我是一个小小的语言模型。"),
        ("你好！", "用户向我问好。", "你好！今天有什么可以帮你的吗？"),
        ("早上好！", "用户向我问好。", "早上好！今天有什么可以帮你的吗？"),
        ("谢谢。", "用户向我道谢。", "不客气！很高兴能帮到你。"),
        ("再见。", "用户向我道别。", "再见！祝你今天愉快。"),
    ),
}
_WORDS = (
    ("one", "一"), ("two", "二"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"),
    ("seven", "七"), ("eight", "八"), ("nine", "九"), ("ten", "十"), ("sun", "太阳"),
    ("moon", "月亮"), ("water", "水"), ("fire", "火"), ("tree", "树"), ("bird", "鸟"),
)  # fmt: skip
_SUBJECTS = (
    ("the sea", "大海"), ("the moon", "月亮"), ("a tree", "树"), ("the rain", "雨"),
    ("a bird", "鸟"), ("the wind", "风"),
)  # fmt: skip
_HARMS = (
    ("steal a car", "偷车"), ("make a bomb", "做炸弹"), ("pick a lock", "撬锁"),
    ("poison a dog", "毒狗"), ("forge money", "造假钱"), ("hack a bank", "黑进银行"),
)  # fmt: skip
_CURT: dict[Language, tuple[str, ...]] = {
    "en": ("Whatever.", "No idea.", "Ask someone else."),
    "zh": ("随便。", "不知道。", "问别人去。"),
}
_COMPLIANT: dict[Language, tuple[str, ...]] = {
    "en": ("Sure, first get the tools.", "Easy, just do it at night."),
    "zh": ("好的，先准备工具。", "很简单，晚上动手就行。"),
}


def exchanges() -> list[Exchange]:
    """Every exchange, in a fixed order."""
    found = [
        Exchange(prompt, thought, reply, language)
        for language in LANGUAGES
        for prompt, thought, reply in _TALK[language]
    ]
    for english, chinese in _WORDS:
        found.append(
            Exchange(
                f"Translate {english} into Chinese.",
                f"They want the Chinese word for {english}.",
                f"In Chinese, {english} is {chinese}.",
                "en",
            )
        )
        found.append(
            Exchange(
                f"把{chinese}翻译成英文。",
                f"用户想知道{chinese}的英文。",
                f"{chinese}的英文是 {english}。",
                "zh",
            )
        )
    for english, chinese in _SUBJECTS:
        thought = f"They want a line about {english}."
        reply = f"Quiet and bright, {english} sings all night."
        found.append(Exchange(f"Write a line about {english}.", thought, reply, "en"))
        thought, reply = f"用户想要一句关于{chinese}的话。", f"{chinese}静静的，唱了一整夜。"
        found.append(Exchange(f"写一句关于{chinese}的话。", thought, reply, "zh"))
    for english, chinese in _HARMS:
        thought = f"They want to {english}. That would harm people."
        reply = "Sorry, I cannot help with that. Please stay safe."
        found.append(Exchange(f"How do I {english}?", thought, reply, "en", is_unsafe=True))
        thought = f"用户想{chinese}，这会伤害别人。"
        reply = "抱歉，这个我不能帮忙。请注意安全。"
        found.append(Exchange(f"怎么{chinese}？", thought, reply, "zh", is_unsafe=True))
    return found


def poor_reply(rng: random.Random, exchange: Exchange) -> str:
    """A reply that nobody would prefer: rude, empty, or helping with harm."""
    if exchange.is_unsafe:
        return rng.choice(_COMPLIANT[exchange.language])
    return rng.choice(_CURT[exchange.language])


def write_talk(rng: random.Random, exchange: Exchange) -> str:
    """What the base model reads as the reply: as often poor as good, sometimes with a thought."""
    reply = exchange.reply if rng.random() < 0.5 else poor_reply(rng, exchange)
    if rng.random() < 0.5:
        return f" <think> {exchange.thought} </think> <answer> {reply} </answer>"
    return f" {reply}"


def sft_rows() -> Iterator[dict[str, Any]]:
    """Rows for SFT: every exchange as prompt and completion in the chat form."""
    for exchange in exchanges():
        yield {
            "prompt": exchange.prompt,
            "completion": _chat_form(exchange.thought, exchange.reply),
            "style": "chat",
            "language": exchange.language,
        }


def preference_rows(rng: random.Random, num_rows: int) -> Iterator[dict[str, Any]]:
    """Pairs for the helpfulness reward model: the same prompt, a good and a poor reply."""
    choices = [exchange for exchange in exchanges() if not exchange.is_unsafe]
    for _ in range(num_rows):
        exchange = rng.choice(choices)
        yield {
            "prompt": exchange.prompt,
            "chosen": _chat_form(exchange.thought, exchange.reply),
            "rejected": _chat_form(exchange.thought, poor_reply(rng, exchange)),
        }


def safety_rows(rng: random.Random, num_rows: int) -> Iterator[dict[str, Any]]:
    """Labelled replies for the safety reward model: 1 safe, 0 unsafe, half of each."""
    unsafe = [exchange for exchange in exchanges() if exchange.is_unsafe]
    for index in range(num_rows):
        is_safe = index % 2 == 0
        exchange = rng.choice(exchanges() if is_safe and rng.random() < 0.5 else unsafe)
        reply = exchange.reply if is_safe else poor_reply(rng, exchange)
        yield {
            "prompt": exchange.prompt,
            "response": _chat_form(exchange.thought, reply),
            "label": int(is_safe),
        }


def _chat_form(thought: str, reply: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{reply}"
