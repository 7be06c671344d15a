"""C kernels for inference on CPUs, compiled where they run."""
