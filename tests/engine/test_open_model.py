from __future__ import annotations

import pytest
import torch

from r1.engine.open_model import choose_device


def test_the_cpu_is_always_there() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "device 'gpu' is not supported; choices: auto, cpu, cuda"),
        ("meta", "device 'meta' is not supported"),
        ("cuda:1000", "device 'cuda:1000' is not on this machine"),
        ("cpu:1", "device 'cpu:1' is not on this machine"),
        ("", "device '' is not supported"),
    ],
)
def test_a_device_that_is_not_there_is_refused(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        choose_device(name)
