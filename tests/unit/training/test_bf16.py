"""On the CPU, bf16 gives the same bytes whatever was in memory before."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# oneDNN leaves part of this gradient unwritten: the off-centre weights touch only padding, so their gradient is 0.
PROGRAM = """
import torch
from halobench.core.specs.training import TrainSpec
from halobench.training.device import memory_format, set_kernels
spec = TrainSpec(precision="bf16", channels_last=True, deterministic={deterministic})
set_kernels(spec)
weight = torch.ones(24, 1, 3, 3).bfloat16().to(memory_format=memory_format(spec)).requires_grad_()
pixels = torch.ones(40, 24, 1, 1).bfloat16().to(memory_format=memory_format(spec))
torch.nn.functional.conv2d(pixels, weight, stride=2, padding=1, groups=24).sum().backward()
weight.grad[:, :, 1, 1] = 0
print(float(weight.grad.abs().max()))
"""


@pytest.mark.process
@pytest.mark.parametrize("byte", ["0", "1", "165"])
def test_no_gradient_holds_what_was_in_memory_before(byte):
    """glibc fills freed memory with this byte (its complement, when it is allocated)."""
    command = [sys.executable, "-c", PROGRAM.format(deterministic=True)]
    environment = os.environ | {"MALLOC_PERTURB_": byte}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) == 0
