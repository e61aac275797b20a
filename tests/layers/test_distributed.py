"""Laws of pruning in several processes: every rank draws different random numbers."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from helpers.nets import pruner_states, same, small_net, step
from helpers.paths import TESTS
from torch.nn.parallel import DistributedDataParallel

from sparsetrain import (
    PruneGrad,
    average_thresholds,
    convert,
    load_pruning_state,
    pruning,
    pruning_state,
)


def seeds(model):
    return [state[pruning.SEED].item() for state in pruner_states(model)]


def train(model, first, steps):
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for i in range(first, first + steps):
        step(model, 10 * i + dist.get_rank())
        optimizer.step()


def two_ranks(rank, folder):
    """Runs in each rank; a failed assertion here fails the test."""
    torch.set_num_threads(1)
    assert "RANK" not in os.environ
    early = convert(small_net(), 0.9, history=2)  # the rank is still unknown
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
    late = convert(small_net(), 0.9, history=2)
    wrapped = DistributedDataParallel(early)
    train(wrapped, 0, 3)
    assert seeds(early) == seeds(late)

    torch.save((early.state_dict(), pruning_state(early)), f"{folder}/{rank}.pt")
    train(wrapped, 3, 2)
    weights, state = torch.load(f"{folder}/{rank}.pt", weights_only=True)
    resumed = convert(small_net(), 0.9, history=2)
    resumed.load_state_dict(weights)
    load_pruning_state(resumed, state)
    train(DistributedDataParallel(resumed), 3, 2)
    assert same(list(early.parameters()), list(resumed.parameters()))
    assert torch.equal(early[2].pruner.state, resumed[2].pruner.state)

    gathered = [None, None]
    dist.all_gather_object(gathered, (early[2].pruner.state.tolist(), early[2].weight.tolist()))
    (first_state, first_weight), (second_state, second_weight) = gathered
    assert first_weight == second_weight
    assert first_state[pruning.SEED] != second_state[pruning.SEED]
    assert first_state[pruning.THRESHOLD] != second_state[pruning.THRESHOLD]

    dist.barrier()
    _, other = torch.load(f"{folder}/{1 - rank}.pt", weights_only=True)
    with pytest.raises(ValueError, match=f"the state's rank to be {rank}, got {1 - rank}"):
        load_pruning_state(resumed, other)
    dist.barrier()  # a rank that leaves early closes the connections of gloo
    dist.destroy_process_group()


def test_two_ranks_draw_different_masks_and_resume_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.delenv("RANK", raising=False)
    mp.spawn(two_ranks, (str(tmp_path),), nprocs=2)


@pytest.mark.parametrize("ranks", [2, 4])
def test_laws_of_ranks_that_torchrun_starts(ranks):
    """Runs ranks.py: DDP, no_sync, thresholds per rank and averaged, and fully_shard."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    result = subprocess.run(
        [*launch, str(ranks), str(Path(__file__).with_name("ranks.py"))],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(TESTS)},
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_averaging_thresholds_requires_a_process_group():
    with pytest.raises(RuntimeError) as error:
        average_thresholds(convert(small_net()))
    assert str(error.value) == (
        "sparsetrain.average_thresholds: expected a process group to be initialized, got none"
    )


@pytest.fixture
def process_group(tmp_path):
    dist.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_a_compiled_model_shifts_its_seeds_to_its_rank_as_an_eager_model_does():
    eager = convert(small_net(), 0.9, history=1)
    for module in eager.modules():
        if isinstance(module, PruneGrad):
            module.rank = 3  # as if the seed were that of rank 3
    before, twin = seeds(eager), copy.deepcopy(eager)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for i in range(3):
        assert same(step(eager, i), step(compiled, i))
    assert seeds(eager) == seeds(twin) and not set(before) & set(seeds(twin))
