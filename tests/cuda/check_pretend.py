"""Check the pretend devices themselves, in a process that has two of them."""

import os
import warnings

import torch


def refused(action, kind=RuntimeError):
    """Return True if an action raises an error of this kind."""
    try:
        action()
    except kind:
        return True
    return False


a, b = torch.randn(4, 5), torch.randn(5, 3)
x, y = a.to("cuda"), b.cuda()
assert torch.equal((x @ y).cpu(), a @ b)
assert (x @ y).device == torch.device("cuda:0")
labels = torch.zeros(4, dtype=torch.int64)
assert refused(lambda: x + a)
assert refused(lambda: x @ b)
assert refused(lambda: torch.cat([x, a]))
assert refused(lambda: x.index_select(0, labels))
assert refused(lambda: torch.nn.functional.cross_entropy(x, labels))
assert refused(lambda: a[labels.cuda()])
assert refused(lambda: x.numpy(), TypeError)
assert refused(lambda: x.mul_(a))
assert refused(lambda: x + a.to("cuda:1"))
assert refused(lambda: torch.empty(1, device="cuda:7"))
assert (x + torch.tensor(1.0)).is_cuda
assert x[labels].is_cuda
assert torch.where(x > 0, x, torch.tensor(0.0)).is_cuda
assert refused(lambda: x @ torch.tensor(1.0))

view = x.t()[1:]
view += 1
assert torch.equal(x[:, 1:].cpu(), a[:, 1:] + 1)
assert torch.equal(x[:, 0].cpu(), a[:, 0])
out = torch.empty(0, device="cuda")
assert torch.add(x, 1, out=out) is out
assert out.shape == x.shape

torch.cuda.manual_seed_all(1)
state = torch.cuda.get_rng_state()
host = torch.get_rng_state()
first = torch.nn.functional.dropout(torch.ones(50, device="cuda"))
assert torch.equal(host, torch.get_rng_state())
torch.cuda.set_rng_state(state)
assert torch.equal(first, torch.nn.functional.dropout(torch.ones(50, device="cuda")))
assert refused(lambda: torch.randn(3, device="cuda", generator=torch.Generator()))

assert a.pin_memory().is_pinned()
assert not a.is_pinned()
before = torch.cuda.memory_allocated()
held = torch.empty(2**20, device="cuda")
assert torch.cuda.memory_allocated() - before == 2**22
torch.cuda.reset_peak_memory_stats()
assert held.cpu().is_cpu
assert torch.cuda.max_memory_allocated() == torch.cuda.memory_allocated()
del held
assert torch.cuda.memory_allocated() == before
assert refused(lambda: torch.empty(2**40, device="cuda"), torch.cuda.OutOfMemoryError)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    torch.cuda.set_sync_debug_mode("warn")
    (x * 2).sum().item(), x.nonzero(), a.to("cuda"), a.to("cuda", non_blocking=True), x[labels]
    assert len(caught) == 5, caught
    a.pin_memory().to("cuda", non_blocking=True), x[labels.pin_memory().to("cuda", non_blocking=True)]
    assert len(caught) == 5, caught
    torch.cuda.set_sync_debug_mode("default")

model = torch.nn.Sequential(
    torch.nn.Conv2d(3, 8, 3, groups=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, groups=8),
    torch.nn.Flatten(), torch.nn.Linear(8 * 16, 5),
).to("cuda", memory_format=torch.channels_last)  # fmt: skip
optimizer = torch.optim.AdamW(model.parameters(), fused=True)
with torch.autocast("cuda", dtype=torch.bfloat16):
    logits = model(torch.randn(4, 3, 8, 8, device="cuda").contiguous(memory_format=torch.channels_last))
assert logits.dtype == torch.bfloat16
torch.nn.functional.cross_entropy(logits.float(), labels.cuda()).backward()
optimizer.step()

if (child := os.fork()) == 0:
    os._exit(0 if refused(lambda: torch.ones(1, device="cuda")) else 1)
assert os.waitpid(child, 0)[1] == 0
print("all checks of the pretend device passed")
