from __future__ import annotations

import json
import math
import multiprocessing
import threading
from pathlib import Path
from typing import Any

import pytest

from r1.backends.openai_http_client import Server
from r1.backends.openai_http_reply import Reply
from r1.evaluation.judges.cache import ReplyCache
from r1.evaluation.judges.judges import CostEstimate, JudgeConfig, ServerJudge, estimate_cost
from r1.records import Completion
from r1.tasks.judged.judged import JudgedTask, JudgeFailure
from r1.tasks.task import TaskConfig, build_task
from tests.backends.conftest import DONE, Handler, Script, answers, event, fails, script, usage

__all__ = ["script"]  # the fixture


def judge(script: Script, **settings: Any) -> ServerJudge:
    config = JudgeConfig(server=script.config(max_attempts=2), **settings)
    return ServerJudge(config, server=Server(config.server, sleep=lambda _: None))


def test_what_a_judge_is_asked(script: Script) -> None:
    script.default = answers("[[A>B]]", reasoning="I weigh")
    opened = judge(script)
    assert opened.name == "m"
    assert opened.ask("Which?", "Be fair.") == "[[A>B]]"
    body = script.requests[0][1]
    assert body["messages"] == [
        {"role": "system", "content": "Be fair."},
        {"role": "user", "content": "Which?"},
    ]
    assert (body["temperature"], body["max_tokens"]) == (0.0, 4096)
    opened.ask("Which?", "Be fair.", attempt=1)
    assert script.requests[1][1]["seed"] != body["seed"]
    opened.ask("Which?")
    assert [m["role"] for m in script.requests[2][1]["messages"]] == ["user"]
    assert (opened.usage.num_calls, opened.usage.num_reply_tokens) == (3, 21)
    assert opened.usage.num_prompt_tokens == 9


def test_a_thought_in_the_content_is_no_verdict(script: Script) -> None:
    script.default = answers("<think>\nmaybe B\n</think>\n\nA")
    assert judge(script).ask("?") == "A"


def test_failures(script: Script) -> None:
    script.default = answers("", finish_reason="length", reasoning="too long a thought")
    with pytest.raises(JudgeFailure, match=r"an empty reply.*length"):
        judge(script).ask("?")
    script.default = fails(500)
    with pytest.raises(JudgeFailure, match="500"):
        judge(script).ask("?")
    script.default = fails(401)
    with pytest.raises(ValueError, match="401"):
        judge(script).ask("?")


def first_token(**logprobs: float):
    def behave(handler: Handler, body: dict[str, Any]) -> None:
        top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
        content = [{"token": "m", "logprob": -0.1, "top_logprobs": top}]
        choice = {"index": 0, "delta": {"content": "m"}, "logprobs": {"content": content}}
        end = {"index": 0, "delta": {}, "finish_reason": "length"}
        handler.stream([event({"choices": [choice]}), event({"choices": [end]}), usage(1), DONE])

    return behave


def test_probabilities_of_the_first_token(script: Script) -> None:
    script.default = first_token(m=math.log(0.7), M=math.log(0.2))
    tokens = judge(script).first_token("?")
    assert tokens == {"m": pytest.approx(0.7), "M": pytest.approx(0.2)}
    body = script.requests[0][1]
    assert (body["max_tokens"], body["logprobs"], body["top_logprobs"]) == (1, True, 5)
    assert body["temperature"] == 1.0
    script.default = answers("M")
    with pytest.raises(JudgeFailure, match="has_logprobs = false"):
        judge(script).first_token("?")
    script.default = answers(' "M".')
    assert judge(script, has_logprobs=False).first_token("?") == {"M": 1.0}


def test_replies_are_kept(script: Script, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "judge.sqlite"
    first = judge(script, cache=cache)
    assert first.ask("?") == "four"
    script.default = answers("five")
    again = judge(script, cache=cache)
    assert again.ask("?") == "four"
    assert (again.usage.num_calls, again.usage.num_cached) == (0, 1)
    # Another question, system message, attempt, sampling or model is another reply.
    assert again.ask("??") == "five"
    assert again.ask("?", "s") == "five"
    assert again.ask("?", attempt=1) == "five"
    assert judge(script, cache=cache, temperature=0.5).ask("?") == "five"
    assert judge(script, cache=cache, seed=1).ask("?") == "five"
    assert len(script.requests) == 6


def test_what_failed_is_not_kept(script: Script, tmp_path: Path) -> None:
    opened = judge(script, cache=tmp_path / "judge.sqlite")
    script.behaviours = [answers(""), answers("cut of", finish_reason="length")]
    with pytest.raises(JudgeFailure):
        opened.ask("?")
    assert opened.ask("?") == "cut of"
    assert opened.ask("?") == "four"
    assert opened.ask("?") == "four"
    assert len(script.requests) == 3


def test_logprobs_survive_the_cache(script: Script, tmp_path: Path) -> None:
    script.behaviours = [first_token(m=-1.0, M=-0.5)]
    opened = judge(script, cache=tmp_path / "judge.sqlite")
    assert (
        opened.first_token("?")
        == opened.first_token("?")
        == {
            "m": pytest.approx(math.exp(-1)),
            "M": pytest.approx(math.exp(-0.5)),
        }
    )


def test_a_file_that_is_no_cache(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    path.write_text("not a database, but long enough to look at" * 10)
    with pytest.raises(ValueError, match=r"judge.sqlite: not a usable cache"):
        ReplyCache(path)


def _fill(path: Path, name: str) -> None:
    cache = ReplyCache(path)
    for number in range(100):
        cache.put(str(number), name, Reply(content=name))


def test_two_processes_and_many_threads_share_a_cache(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    context = multiprocessing.get_context("spawn")
    other = context.Process(target=_fill, args=(path, "process"))
    other.start()
    threads = [threading.Thread(target=_fill, args=(path, f"thread {i}")) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other.join()
    assert other.exitcode == 0
    cache = ReplyCache(path)
    kept = [cache.get(str(number)) for number in range(100)]
    assert all(reply is not None for reply in kept)
    # The first one stays, for everybody.
    assert cache.put("0", "late", Reply(content="late")) == kept[0]


def test_the_cost_is_estimated_beforehand(tmp_path: Path) -> None:
    output = "b" * 400
    (tmp_path / "model_outputs.json").write_text(
        json.dumps([{"instruction": "Sing.", "output": output, "generator": "g"}] * 3)
    )
    server = {"url": "http://localhost/v1", "model": "gpt"}
    config = JudgeConfig.model_validate({"server": server})

    def estimate(config: JudgeConfig, *num_replies: int) -> CostEstimate:
        task = build_task(TaskConfig(name="alpaca_eval", path=str(tmp_path)), ServerJudge(config))
        assert isinstance(task, JudgedTask)
        problems = task.problems("test")
        counts = dict(zip([problem.id for problem in problems], num_replies, strict=True))
        return estimate_cost(task, counts, problems)

    built = build_task(TaskConfig(name="alpaca_eval", path=str(tmp_path)))
    assert isinstance(built, JudgedTask)
    prompt = built.rubric.prompts(built.test[0], "")[0]
    length = len(prompt.user) + len(prompt.system) + len(output)
    unpriced = estimate(config, 2, 2, 2)
    assert (unpriced.num_calls, unpriced.num_reply_tokens) == (6, 6)
    assert unpriced.num_prompt_tokens == 6 * length // 4
    assert unpriced.price is None
    assert "alpaca_eval: 6 calls of judge gpt" in unpriced.line()
    assert "estimated as characters / 4), no price known" in unpriced.line()
    assert estimate(config, 0, 1, 0).num_prompt_tokens == length // 4
    prices = {"prompt_price_per_million": 10.0, "reply_price_per_million": 30.0}
    price = estimate(config.model_copy(update=prices), 2, 2, 2).price
    assert price == pytest.approx((unpriced.num_prompt_tokens * 10 + 6 * 30) / 1e6)


def test_a_task_is_graded_through_a_server(script: Script, tmp_path: Path) -> None:
    path = tmp_path / "qa.csv"
    path.write_text("metadata,problem,answer\nx,Who?,Ann\n")
    script.default = answers("A", reasoning="the same name")
    with_judge = build_task(TaskConfig(name="simpleqa", path=str(path)), judge(script))
    problem = with_judge.problems("test")[0]
    assert with_judge.grade(problem, Completion("It was Ann.")).reward == 1.0
    assert with_judge.grader_version == "simpleqa-1 by m"
    script.default = fails(503)
    grade = with_judge.grade(problem, Completion("It was Ann."))
    assert grade.reward is None
    assert "503" in grade.reason
