"""Laws of pruning in a process group. test_distributed.py runs this file with torchrun.

A failed assertion in one rank ends the run with an error.
"""

import copy
import os

import torch
import torch.distributed as dist
from helpers.nets import pruner_states, same
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sparsetrain import average_thresholds, convert, pruning


def net():
    """A float64 network without BatchNorm, whose statistics would be those of one rank's images."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3), nn.Tanh(), nn.Conv2d(6, 6, 3), nn.Tanh(), nn.Conv2d(6, 4, 2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 5)).double()


def images(seed):
    """The images of all ranks, [2 * ranks, 3, 8, 8], and the two of this rank."""
    generator = torch.Generator().manual_seed(seed)
    world = dist.get_world_size()
    all_images = torch.randn(2 * world, 3, 8, 8, generator=generator, dtype=torch.float64)
    return all_images, all_images.chunk(world)[dist.get_rank()]


def gradients(model, *batches):
    model.zero_grad()
    for x in batches:
        model(x).square().mean().backward()
    return [p.grad for p in model.parameters()]


def gathered(value):
    values = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return values


def unpruned_ranks_equal_one_process_on_the_images_of_all_ranks():
    all_images, my_images = images(0)
    expected = gradients(net(), all_images)
    model = convert(net(), 0)
    averaged = gradients(DistributedDataParallel(model), my_images)
    torch.testing.assert_close(averaged, expected)  # the order of additions differs
    assert all(state[pruning.PUSHES] == 1 for state in pruner_states(model))


def no_sync_accumulates_the_gradients_of_two_batches():
    (first, my_first), (second, my_second) = images(1), images(2)
    expected = gradients(net(), first, second)
    model = DistributedDataParallel(convert(net(), 0))
    model.zero_grad()
    with model.no_sync():
        model(my_first).square().mean().backward()
    model(my_second).square().mean().backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)
    assert all(state[pruning.PUSHES] == 2 for state in pruner_states(model))


def ranks_draw_different_masks_and_average_their_thresholds(early):
    """`early` was converted before the process group existed, with RANK in the environment."""
    assert same(pruner_states(early), pruner_states(convert(net(), 0.9, history=1)))
    model = DistributedDataParallel(early)
    for i in range(3):
        gradients(model, images(i)[1])
    for values_of_ranks in zip(
        *gathered([state.tolist() for state in pruner_states(early)]), strict=True
    ):
        for slot in (pruning.SEED, pruning.THRESHOLD):
            assert len({values[slot] for values in values_of_ranks}) == dist.get_world_size()

    before = gathered([state[pruning.HEADER :].tolist() for state in pruner_states(early)])
    seeds = [state[pruning.SEED].clone() for state in pruner_states(early)]
    average_thresholds(model)
    means = torch.tensor(before, dtype=torch.float64).mean(0)
    torch.testing.assert_close(
        torch.stack([s[pruning.HEADER :] for s in pruner_states(early)]), means
    )
    assert same(seeds, [state[pruning.SEED] for state in pruner_states(early)])
    gradients(model, images(3)[1])
    thresholds = gathered([state[pruning.THRESHOLD].item() for state in pruner_states(early)])
    assert all(each == thresholds[0] for each in thresholds)
    average_thresholds(convert(net(), history=0))  # nothing to average, and no error


def fully_sharded_models_train():
    all_images, my_images = images(0)
    expected = [g.clone() for g in gradients(net(), all_images)]
    for rate in (0, 0.9):
        model = convert(net(), rate, history=1)
        for layer in model:
            if isinstance(layer, nn.Conv2d):
                fully_shard(layer)
        fully_shard(model)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        losses = []
        for i in range(4):
            sharded = gradients(model, my_images)
            if i == 0:
                torch.testing.assert_close([g.full_tensor() for g in sharded], expected)
            optimizer.step()
            losses.append(model(all_images).square().mean().item())
        assert losses == sorted(losses, reverse=True) and len(set(losses)) == 4
        assert all(state[pruning.PUSHES] == 4 for state in pruner_states(model))


def main():
    torch.set_num_threads(1)
    assert "RANK" in os.environ
    early = convert(net(), 0.9, history=1)
    dist.init_process_group("gloo")
    unpruned_ranks_equal_one_process_on_the_images_of_all_ranks()
    no_sync_accumulates_the_gradients_of_two_batches()
    ranks_draw_different_masks_and_average_their_thresholds(copy.deepcopy(early))
    fully_sharded_models_train()
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
