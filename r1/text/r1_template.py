"""The chat template that a model without one is talked to with, and saved with."""

from __future__ import annotations

# The published template's text turns (deepseek-ai/DeepSeek-R1 tokenizer_config.json,
# form of 9 February 2025), without its tool calls.
R1_CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages if message['role'] == 'system' %}"
    "{% if loop.last %}{{ message['content'] }}{% endif %}{% endfor %}"
    "{% for message in messages %}"
    "{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"
    "{% elif message['role'] == 'assistant' %}"
    "{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + eos_token }}"
    "{% elif message['role'] == 'tool' %}"
    "{{ raise_exception('this chat template has no tool turns') }}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}"
)
