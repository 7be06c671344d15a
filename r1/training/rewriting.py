"""Rewriting a kept reply into R1's cold-start form: a thought, then a readable summary.

R1 rewrote R1-Zero's thoughts with a model and had people check them. Here a rule
puts a reply into the form, or any model rewrites it through a `Generator`; either
way the caller grades the result again, so that a rewrite cannot lose the answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from r1.generator import Generator
from r1.records import GenerationRequest, SamplingParams
from r1.text.prompts import build_prompt, completion_of
from r1.text.reasoning import split_reasoning
from r1.text.tokenizer import Tokenizer
from r1.training.sample_filters import GradedReply

# Takes replies, gives each one's new text, or None where it could not be rewritten.
Rewrite = Callable[[Sequence[GradedReply]], list[str | None]]

SUMMARIES = {
    "en": "The answer is \\boxed{ANSWER}.",
    "zh": "答案是 \\boxed{ANSWER}。",
    "ja": "答えは \\boxed{ANSWER} です。",
    "ko": "정답은 \\boxed{ANSWER}입니다.",
    "fr": "La réponse est \\boxed{ANSWER}.",
    "de": "Die Antwort ist \\boxed{ANSWER}.",
    "es": "La respuesta es \\boxed{ANSWER}.",
    "ru": "Ответ: \\boxed{ANSWER}.",
}

REWRITE_REQUEST = """\
Below are a question and a draft of its solution. Rewrite the draft as a clear chain of \
thought in the first person, in the language of the question: keep every step and every \
check that leads to the answer, drop repetitions, false starts that lead nowhere, and words \
of other languages. Do not change the answer. Write nothing but the rewritten solution.

Question: {question}

Draft:
{thought}"""

_BLANK_LINES = re.compile(r"\n{3,}")
_TRAILING_SPACES = re.compile(r"[ \t]+$", re.MULTILINE)


def think_and_summary(thought: str, summary: str) -> str:
    """R1's chat form: `<think>`, the thought, `</think>`, an empty line, the summary."""
    return f"<think>\n{thought.strip()}\n</think>\n\n{summary.strip()}"


def summarize(reply: GradedReply, summaries: Mapping[str, str] = SUMMARIES) -> str | None:
    """A sentence with the graded answer in the question's language (else English).

    An open question has no answer to name: its reply's own answer is the summary.
    """
    answer = reply.grade.answer
    if answer is None:
        return split_reasoning(reply.completion.text).answer or None
    template = summaries.get(reply.problem.language) or summaries.get("en") or SUMMARIES["en"]
    return template.replace("ANSWER", answer)


def rewrite_by_rule(
    replies: Sequence[GradedReply], summaries: Mapping[str, str] = SUMMARIES
) -> list[str | None]:
    """The same thought, tidied in white space, and a summary sentence."""
    return [
        _in_form(reply, split_reasoning(reply.completion.text).thought, summaries)
        for reply in replies
    ]


def rewrite_by_model(
    replies: Sequence[GradedReply],
    generator: Generator,
    tokenizer: Tokenizer,
    *,
    sampling: SamplingParams,
    seed: int = 0,
    summaries: Mapping[str, str] = SUMMARIES,
) -> list[str | None]:
    """Thoughts rewritten by a model that follows instructions, asked once for each reply.

    If the writer is a reasoning model, its own thought is dropped. A rewrite that the
    token limit cuts is None.
    """
    prompts = []
    for reply in replies:
        thought = split_reasoning(reply.completion.text).thought or ""
        request = REWRITE_REQUEST.format(question=reply.problem.question, thought=thought)
        prompts.append(build_prompt(tokenizer, request, "chat"))
    requests = [
        GenerationRequest(
            id=f"rewrite/{reply.problem.id}/{reply.sample_index}",
            prompt_ids=prompt.ids,
            sampling=sampling,
            seed=seed,
        )
        for reply, prompt in zip(replies, prompts, strict=True)
    ]
    texts = []
    answered = zip(replies, prompts, generator.generate(requests), strict=True)
    for reply, prompt, (sample,) in answered:
        written = split_reasoning(completion_of(prompt, sample).text)
        is_whole = sample.finish_reason == "stop"
        texts.append(_in_form(reply, written.answer, summaries) if is_whole else None)
    return texts


def _in_form(reply: GradedReply, thought: str | None, summaries: Mapping[str, str]) -> str | None:
    summary = summarize(reply, summaries)
    if not thought or not thought.strip() or not summary:
        return None
    tidy = _BLANK_LINES.sub("\n\n", _TRAILING_SPACES.sub("", thought))
    return think_and_summary(tidy, summary)
