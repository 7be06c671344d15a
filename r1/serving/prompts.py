"""DeepSeek-R1's official prompts for files and for web search, and how they are filled.

The three templates are those of the DeepSeek-R1 README, section "Official Prompts" (MIT
License, Copyright (c) 2023 DeepSeek), character for character: the model was trained with
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Protocol

from r1.text.language import detect_language

FILE_TEMPLATE = (
    "[file name]: {file_name}\n[file content begin]\n{file_content}\n[file content end]\n{question}"
)

SEARCH_TEMPLATE_ZH = (
    "# 以下内容是基于用户发送的消息的搜索结果:\n"
    "{search_results}\n"
    "在我给你的搜索结果中，每个结果都是[webpage X begin]...[webpage X end]格式的，X代表每篇文章的"
    "数字索引。请在适当的情况下在句子末尾引用上下文。请按照引用编号[citation:X]的格式在答案中对应"
    "部分引用上下文。如果一句话源自多个上下文，请列出所有相关的引用编号，例如[citation:3][citatio"
    "n:5]，切记不要将引用集中在最后返回引用编号，而是在答案对应部分列出。\n"
    "在回答时，请注意以下几点：\n"
    "- 今天是{cur_date}。\n"
    "- 并非搜索结果的所有内容都与用户的问题密切相关，你需要结合问题，对搜索结果进行甄别、筛选。\n"
    "- 对于列举类的问题（如列举所有航班信息），尽量将答案控制在10个要点以内，并告诉用户可以查看搜"
    "索来源、获得完整信息。优先提供信息完整、最相关的列举项；如非必要，不要主动告诉用户搜索结果未"
    "提供的内容。\n"
    "- 对于创作类的问题（如写论文），请务必在正文的段落中引用对应的参考编号，例如[citation:3][cit"
    "ation:5]，不能只在文章末尾引用。你需要解读并概括用户的题目要求，选择合适的格式，充分利用搜索"
    "结果并抽取重要信息，生成符合用户要求、极具思想深度、富有创造力与专业性的答案。你的创作篇幅需"
    "要尽可能延长，对于每一个要点的论述要推测用户的意图，给出尽可能多角度的回答要点，且务必信息量"
    "大、论述详尽。\n"
    "- 如果回答很长，请尽量结构化、分段落总结。如果需要分点作答，尽量控制在5个点以内，并合并相关"
    "的内容。\n"
    "- 对于客观类的问答，如果问题的答案非常简短，可以适当补充一到两句相关信息，以丰富内容。\n"
    "- 你需要根据用户要求和回答内容选择合适、美观的回答格式，确保可读性强。\n"
    "- 你的回答应该综合多个相关网页来回答，不能重复引用一个网页。\n"
    "- 除非用户要求，否则你回答的语言需要和用户提问的语言保持一致。\n"
    "\n"
    "# 用户消息为：\n"
    "{question}"
)

SEARCH_TEMPLATE_EN = (
    "# The following contents are the search results related to the user's message:\n"
    "{search_results}\n"
    "In the search results I provide to you, each result is formatted as [webpage X "
    "begin]...[webpage X end], where X represents the numerical index of each article. Please "
    "cite the context at the end of the relevant sentence when appropriate. Use the citation "
    "format [citation:X] in the corresponding part of your answer. If a sentence is derived from "
    "multiple contexts, list all relevant citation numbers, such as [citation:3][citation:5]. Be "
    "sure not to cluster all citations at the end; instead, include them in the corresponding "
    "parts of the answer.\n"
    "When responding, please keep the following points in mind:\n"
    "- Today is {cur_date}.\n"
    "- Not all content in the search results is closely related to the user's question. You need "
    "to evaluate and filter the search results based on the question.\n"
    "- For listing-type questions (e.g., listing all flight information), try to limit the "
    "answer to 10 key points and inform the user that they can refer to the search sources for "
    "complete information. Prioritize providing the most complete and relevant items in the "
    "list. Avoid mentioning content not provided in the search results unless necessary.\n"
    "- For creative tasks (e.g., writing an essay), ensure that references are cited within the "
    "body of the text, such as [citation:3][citation:5], rather than only at the end of the "
    "text. You need to interpret and summarize the user's requirements, choose an appropriate "
    "format, fully utilize the search results, extract key information, and generate an answer "
    "that is insightful, creative, and professional. Extend the length of your response as much "
    "as possible, addressing each point in detail and from multiple perspectives, ensuring the "
    "content is rich and thorough.\n"
    "- If the response is lengthy, structure it well and summarize it in paragraphs. If a "
    "point-by-point format is needed, try to limit it to 5 points and merge related content.\n"
    "- For objective Q&A, if the answer is very brief, you may add one or two related sentences "
    "to enrich the content.\n"
    "- Choose an appropriate and visually appealing format for your response based on the user's "
    "requirements and the content of the answer, ensuring strong readability.\n"
    "- Your answer should synthesize information from multiple relevant webpages and avoid "
    "repeatedly citing the same webpage.\n"
    "- Unless the user requests otherwise, your response should be in the same language as the "
    "user's question.\n"
    "\n"
    "# The user's message is:\n"
    "{question}"
)

# What the templates use as marks, spelt in any way that a model might take for them. Nowhere do
# two runs of spaces meet: a file of a million of them would be tried in all pairs of lengths.
_BRACKETS = re.compile(
    r"[\[［【]\s*((?:/\s*)?(?:webpage\s*\d+\s*(?:begin|end)|file\s*content\s*(?:begin|end)|file\s*name))"
    r"\s*[\]］】]",
    re.IGNORECASE,
)
_HEADING = re.compile(
    r"^[ \t]*#+[ \t]*"
    r"(?=用户消息为|以下内容是基于用户|The user's message is|The following contents are)",
    re.MULTILINE | re.IGNORECASE,
)
_END_CHARACTERS = 2000
_WEEKDAYS_ZH = "一二三四五六日"
_WEEKDAYS_EN = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS_EN = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)


class NamedText(Protocol):
    """A file as the template wants it."""

    @property
    def name(self) -> str: ...
    @property
    def text(self) -> str: ...


class IndexedText(Protocol):
    """A search result as the template wants it."""

    @property
    def index(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def url(self) -> str: ...
    @property
    def date(self) -> str: ...
    @property
    def text(self) -> str: ...


def with_files(question: str, documents: Sequence[NamedText]) -> str:
    """The user's turn: each file in the official template, then the question."""
    for document in reversed(documents):
        question = FILE_TEMPLATE.format(
            file_name=disarm(" ".join(document.name.split())),
            file_content=disarm(document.text),
            question=question,
        )
    return question


def with_search(
    question: str,
    sources: Sequence[IndexedText],
    today: date,
    documents: Sequence[NamedText] = (),
) -> str:
    """The user's turn: search results in the official template, then files and the question.

    Chinese for a Chinese question, English for any other. Without sources it is the
    question with its files.
    """
    asked = with_files(question, documents)
    if not sources:
        return asked
    # Of a long question its ends tell; the whole could take the server's time.
    ends = f"{question[:_END_CHARACTERS]}\n{question[_END_CHARACTERS:][-_END_CHARACTERS:]}"
    is_chinese = detect_language(ends) == "zh"
    template = SEARCH_TEMPLATE_ZH if is_chinese else SEARCH_TEMPLATE_EN
    return template.format(
        search_results="\n".join(_web_page(source) for source in sources),
        cur_date=format_date(today, is_chinese=is_chinese),
        question=asked,
    )


def format_date(day: date, *, is_chinese: bool) -> str:
    """With the weekday, as DeepSeek's own prompts have it (DeepSeek-V3-0324 README)."""
    if is_chinese:
        weekday = _WEEKDAYS_ZH[day.weekday()]
        return f"{day.year}年{day.month}月{day.day}日，星期{weekday}"
    weekday = _WEEKDAYS_EN[day.weekday()]
    return f"{weekday}, {_MONTHS_EN[day.month - 1]} {day.day}, {day.year}"


def _web_page(source: IndexedText) -> str:
    head = [source.title, source.url, source.date]
    text = "\n".join([*(" ".join(part.split()) for part in head if part.strip()), source.text])
    return f"[webpage {source.index} begin]{disarm(text)}[webpage {source.index} end]"


def disarm(text: str) -> str:
    """Text that cannot end its own page or file, or begin the user's message.

    The templates' marks become (webpage 3 end); a heading of theirs loses its #. Special
    tokens need nothing here: untrusted text is encoded as text (`r1.text.chat_template`).
    """
    return _HEADING.sub("", _BRACKETS.sub(r"(\1)", text))
