"""Weights that two processes hold a half of each (FSDP2, gloo): the curve of one process with the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed.fsdp

import qkv

RUN = """
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from qkv.models import Translator, TranslatorConfig

dist.init_process_group("gloo")
mesh, rank = init_device_mesh("cpu", (2,)), dist.get_rank()
torch.manual_seed(0)
sizes = dict(hidden_size=32, intermediate_size=48, encoder_layers=2, decoder_layers=2, num_attention_heads=4)
whole = Translator(TranslatorConfig(vocab_size=60, **sizes, dropout=0.0)).train()
shared = Translator(whole.config).train()
shared.load_state_dict(whole.state_dict())
for layer in [*shared.encoder.stack.layers, *shared.decoder.stack.layers]:
    fully_shard(layer, mesh=mesh)
fully_shard(shared, mesh=mesh)
half = shared.get_input_embeddings().weight
assert half.to_local().shape == (30, 32), half.to_local().shape
source, labels = (torch.randint(3, 60, (4, 6), generator=torch.Generator().manual_seed(seed)) for seed in (1, 2))
labels[0, 3:] = -100
part, count = slice(2 * rank, 2 * rank + 2), (labels != -100).sum()
optimizers = [torch.optim.AdamW(each.parameters(), lr=1e-3) for each in (whole, shared)]
for _ in range(5):
    for optimizer in optimizers:
        optimizer.zero_grad()
    expected = whole(input_ids=source, labels=labels).loss
    expected.backward()
    # Gradients are averaged over the processes, so each divides by its share of the labels.
    found = shared(input_ids=source[part], labels=labels[part], num_items_in_batch=count / 2).loss
    found.backward()
    for optimizer in optimizers:
        optimizer.step()
    mean = found.detach().clone()
    dist.all_reduce(mean)
    if rank == 0:
        print("losses", mean.item() / 2, expected.item())
dist.destroy_process_group()
"""


@pytest.mark.skipif(not hasattr(torch.distributed.fsdp, "fully_shard"), reason="this PyTorch keeps FSDP2 private")
def test_shared_weights_follow_the_curve_of_whole_ones(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)
    environment = {**os.environ, "PYTHONPATH": str(Path(qkv.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("losses")]
    assert len(lines) == 5
    for found, expected in lines:
        assert float(found) == pytest.approx(float(expected), abs=1e-4)
    assert float(lines[-1][0]) < float(lines[0][0])
