"""Generation: continuous batching over a KV cache in blocks."""
