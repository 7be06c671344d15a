"""Templates of the bases' families (ChatML, Llama 3's headers) render as in transformers.

The texts are our own, with every construct of the released ones: their names for tools and
dates, white-space control, slices, filters, errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from r1.records import Message
from r1.text.chat_template import encode_chat, render_chat
from r1.text.special_tokens import SpecialTokens
from r1.text.tokenizer import Tokenizer

CHATML = r"""
{%- set default = 'You are a helpful assistant.' %}
{%- if tools %}
    {{- '<|im_start|>system\n' + (messages[0]['content'] if messages[0].role == 'system') }}
    {{- "\n\n# Tools\n\n<tools>" }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\n</tools><|im_end|>\n" }}
{%- elif messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\n' ~ default ~ '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first)
        or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\n<tool_response>\n' }}
        {{- message.content }}
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""

LLAMA_3 = r"""
{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The system turn is always there. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\n" }}
    {{- tools | tojson(indent=4) }}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") }}
{%- endif %}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
            + message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\n\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- raise_exception("This model only supports single tool-calls at once!") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
TEMPLATES = {"ChatML": CHATML, "Llama 3": LLAMA_3}

CHATS = {
    "one turn": [Message("user", " What is 1+1? ")],
    "system": [Message("system", "Be brief.\n"), Message("user", "你好 😀")],
    "turns": [
        Message("user", "a\n\nb"),
        Message("assistant", "c"),
        Message("user", "d"),
    ],
    "tools": [Message("user", "2+2?"), Message("tool", '{"é": "<4>"}'), Message("tool", "4")],
}


@pytest.fixture(scope="module")
def theirs(tiny: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("tiny")
    tiny.save(folder)
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("is_reply_next", [True, False])
@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("family", TEMPLATES)
def test_it_renders_as_in_transformers(
    theirs: Any, family: str, chat: str, is_reply_next: bool
) -> None:
    template, messages = TEMPLATES[family], CHATS[chat]
    text = render_chat(
        messages,
        template,
        bos_token=theirs.bos_token,
        eos_token=theirs.eos_token,
        add_generation_prompt=is_reply_next,
        force_think=False,
    )
    assert text == theirs.apply_chat_template(
        [{"role": message.role, "content": message.content} for message in messages],
        chat_template=template,
        add_generation_prompt=is_reply_next,
        tokenize=False,
    )


@pytest.mark.parametrize(
    ("family", "end"),
    [
        ("ChatML", "<|im_end|>\n<|im_start|>assistant\n<think>\n"),
        ("Llama 3", "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n<think>\n"),
    ],
)
def test_a_forced_thought_follows_their_generation_prompt(
    tiny: Tokenizer, family: str, end: str
) -> None:
    names = SpecialTokens(eos=tiny.names.eos, bos=tiny.names.bos)
    tokenizer = Tokenizer(tiny.backend, names, chat_template=TEMPLATES[family])
    prompt = encode_chat(tokenizer, [Message("user", "<think>1+1?<｜User｜>")])
    text = tokenizer.decode(prompt.ids, skip_special=False)
    assert text.endswith(end) and prompt.forced_opening == "<think>\n"
    think, user = tokenizer.token_id("<think>"), tokenizer.token_id("<｜User｜>")
    assert prompt.ids.count(think) == 1 and user not in prompt.ids
    assert prompt.ids.count(tokenizer.bos_id) == 1 and prompt.ids[0] == tokenizer.bos_id
