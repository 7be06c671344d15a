"""Text in and out of a model: tokenizer, chat template, prompts, the think split, language."""
