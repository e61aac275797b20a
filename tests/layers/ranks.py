"""What every rank does that torchrun starts; an assertion that fails on one ends the run."""

import copy
import os

import torch
import torch.distributed as dist
from helpers.nets import same
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sparsetrain import PruneGrad, average_thresholds, convert, pruning


def net():
    """Without BatchNorm, whose statistics are those of a rank's own images; in float64."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 5)).double()


def states(model):
    return [m.state for m in model.modules() if isinstance(m, PruneGrad)]


def images(seed):
    """Two for every rank: [2, 3, 8, 8] of this one's own, after those of all of them."""
    generator = torch.Generator().manual_seed(seed)
    world = dist.get_world_size()
    joined = torch.randn(2 * world, 3, 8, 8, generator=generator, dtype=torch.float64)
    return joined, joined.chunk(world)[dist.get_rank()]


def gradients(model, *batches):
    model.zero_grad()
    for x in batches:
        model(x).square().mean().backward()
    return [p.grad for p in model.parameters()]


def everyones(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def nothing_pruned_is_one_process_on_the_joined_batch():
    joined, mine = images(0)
    expected = gradients(net(), joined)
    model = convert(net(), 0)
    ours = gradients(DistributedDataParallel(model), mine)
    torch.testing.assert_close(ours, expected)  # float64: another order of addition
    assert all(state[pruning.PUSHES] == 1 for state in states(model))


def without_synchronisation_gradients_accumulate():
    (one, my_one), (two, my_two) = images(1), images(2)
    expected = gradients(net(), one, two)
    model = DistributedDataParallel(convert(net(), 0))
    model.zero_grad()
    with model.no_sync():
        model(my_one).square().mean().backward()
    model(my_two).square().mean().backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)
    assert all(state[pruning.PUSHES] == 2 for state in states(model))


def ranks_prune_apart(early):
    """`early` was converted before the process group came up, with RANK in the environment."""
    assert same(states(early), states(convert(net(), 0.9, history=1)))
    model = DistributedDataParallel(early)
    for i in range(3):
        gradients(model, images(i)[1])
    for mine in zip(*everyones([state.tolist() for state in states(early)]), strict=True):
        for slot in (pruning.SEED, pruning.THRESHOLD):
            assert len({values[slot] for values in mine}) == dist.get_world_size()

    before = everyones([state[pruning.HEADER :].tolist() for state in states(early)])
    seeds = [state[pruning.SEED].clone() for state in states(early)]
    average_thresholds(model)
    means = torch.tensor(before, dtype=torch.float64).mean(0)
    torch.testing.assert_close(torch.stack([s[pruning.HEADER :] for s in states(early)]), means)
    assert same(seeds, [state[pruning.SEED] for state in states(early)])
    gradients(model, images(3)[1])
    thresholds = everyones([state[pruning.THRESHOLD].item() for state in states(early)])
    assert all(each == thresholds[0] for each in thresholds)
    average_thresholds(convert(net(), history=0))  # which has nothing to average


def fully_sharded_models_train():
    joined, mine = images(0)
    expected = [g.clone() for g in gradients(net(), joined)]
    for rate in (0, 0.9):
        model = convert(net(), rate, history=1)
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                fully_shard(layer)
        fully_shard(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        losses = []
        for i in range(4):
            ours = gradients(model, mine)
            if i == 0:
                torch.testing.assert_close([g.full_tensor() for g in ours], expected)
            optimizer.step()
            losses.append(model(joined).square().mean().item())
        assert losses == sorted(losses, reverse=True) and len(set(losses)) == 4
        assert all(state[pruning.PUSHES] == 4 for state in states(model))


def main():
    torch.set_num_threads(1)
    assert "RANK" in os.environ
    early = convert(net(), 0.9, history=1)
    dist.init_process_group("gloo")
    nothing_pruned_is_one_process_on_the_joined_batch()
    without_synchronisation_gradients_accumulate()
    ranks_prune_apart(copy.deepcopy(early))
    fully_sharded_models_train()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
