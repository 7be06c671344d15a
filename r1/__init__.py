"""r1: train, distil, evaluate and run DeepSeek-R1 style reasoning models."""

__version__ = "0.1.0"
