"""Laws of training on several processes: test_train_ranks.py runs this file under torchrun.

Arguments: a folder of data and an output folder, which gets `uninterrupted.json`, the results of an
uninterrupted run. A failed assertion on any rank ends all.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from sparsetrain import pruning
from sparsetrain.experiments import checkpoint, datasets
from sparsetrain.experiments.files import write_json
from sparsetrain.experiments.ranks import gather, joined
from sparsetrain.experiments.settings import Settings
from sparsetrain.experiments.training import Trainer

SETTINGS = Settings(rate=0.9, epochs=2, batch_size=16, learning_rate=0.05)  # 6 steps of 96 images


def finish(trainer):
    """Trains to the end; returns the losses of this rank's steps."""
    return [event.loss for event in trainer.run() if event.phase == "train"]


def ranks_train_like_one_process(data):
    """Without BatchNorm, dropout and pruning, the mean of the ranks' losses is that of one."""
    trainer = Trainer(replace(SETTINGS, model="plain", rate=0.0, epochs=1, backend="dense"), data)
    alone = Trainer(trainer.settings, data)
    alone.rank, alone.processes = 0, 1
    for module in (*trainer.model.modules(), *alone.model.modules()):
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    ranks = zip(*gather(finish(trainer)), strict=True)
    expected = finish(alone)
    torch.testing.assert_close([sum(losses) / 2 for losses in ranks], expected, rtol=1e-4, atol=0)
    assert expected[-1] < 0.9 * expected[0]


def resumption_is_bit_exact(data, folder):
    uninterrupted, stopped = Trainer(SETTINGS, data), Trainer(SETTINGS, data)
    finish(uninterrupted)
    for _, _ in zip(range(9), stopped.run(), strict=False):  # inside the second epoch
        pass
    checkpoint.save(folder / "run.pt", stopped)
    dist.barrier()  # waits until rank 0 has written the file
    torch.manual_seed(123)
    content = checkpoint.load(folder / "run.pt")
    seeds, randoms = [], []
    for rank in content["ranks"]:
        seeds.append(next(iter(rank["pruning"]["pruners"].values()))[pruning.SEED].item())
        randoms.append(rank["random"])
    assert seeds[0] != seeds[1] and not torch.equal(*randoms)

    resumed = checkpoint.restore(folder / "run.pt", content, data)
    finish(resumed)
    for expected, found in zip(states(uninterrupted), states(resumed), strict=True):
        assert torch.equal(expected, found)
    if dist.get_rank() == 0:
        write_json(folder / "uninterrupted.json", uninterrupted.results())


def states(trainer):
    """The weights, the pruners' states of all ranks, and the records of all epochs."""
    state = trainer.state_dict()
    yield from trainer.model.parameters()
    for rank in state["ranks"]:
        yield from rank["pruning"]["pruners"].values()
    for record in trainer.epochs:
        yield torch.tensor([record.train_loss, record.test_accuracy])


def accuracy_is_that_of_rank_0(data):
    """Each rank tests a part of the test set, with the running statistics of rank 0's BatchNorm."""
    trainer = Trainer(replace(SETTINGS, epochs=1), data)
    finish(trainer)
    trainer.model.eval()
    with torch.no_grad():
        logits = trainer.model(data.normalize(data.test.images))
    accuracy = (logits.argmax(1) == data.test.labels).float().mean().item()
    assert abs(trainer.epochs[0].test_accuracy - accuracy) < 1e-6  # DDP has copied rank 0's model


def main():
    torch.set_num_threads(1)
    data, folder = datasets.load(data_dir=Path(sys.argv[1])), Path(sys.argv[2])
    with joined():
        assert dist.get_world_size() == 2
        ranks_train_like_one_process(data)
        accuracy_is_that_of_rank_0(data)
        resumption_is_bit_exact(data, folder)


if __name__ == "__main__":
    main()
