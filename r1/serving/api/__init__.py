"""The OpenAI-compatible API with the rules of use of DeepSeek-R1."""
