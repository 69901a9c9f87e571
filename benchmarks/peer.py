"""The other side: what a fastai user writes, with the same network, head, files and batches.

fastai's own ways are kept: BatchNorm stays live in frozen layers (`train_bn`), files are decoded in every epoch, by worker
processes where that is quicker. Only the validation after each epoch is left out, for the last one."""
from contextlib import contextmanager

import torch
from fastai.callback.core import Callback, CancelValidException
from fastai.callback.schedule import *  # noqa: F403 (fit_one_cycle, lr_find: methods of Learner)
from fastai.data.block import CategoryBlock, DataBlock
from fastai.data.transforms import ColReader, ColSplitter, Normalize
from fastai.metrics import RocAucBinary
from fastai.vision.augment import Resize
from fastai.vision.core import PILImageBW
from fastai.vision.data import ImageBlock
from fastai.vision.learner import vision_learner
from torch import nn
from torchvision.models import resnet18

from runner import seconds_of
from ttl_nb.models.backbone import original_names

BATCH = 16


def loaders(
    items, # Table with the columns file, label, is_valid
    size, # Pixels a side
    workers=0, # Processes that decode
    image=PILImageBW, # How a file is opened
    batch=BATCH, # Images in a batch
): # fastai DataLoaders
    "Files to batches of grey images, normalised as the other side's network does."
    block = DataBlock(blocks=(ImageBlock(cls=image), CategoryBlock), get_x=ColReader("file"), get_y=ColReader("label"), splitter=ColSplitter("is_valid"),
                      item_tfms=Resize(size, method="squish"), batch_tfms=Normalize.from_stats([.5], [.25], cuda=False))
    return block.dataloaders(items, bs=batch, num_workers=workers, device="cpu")


def learner(
    dls, # From `loaders`
    checkpoint, # Weights to start from
    splitter=None, # Parameter groups; fastai's three if `None`
): # A fastai Learner with a new linear head
    "`vision_learner` with the same network, weights and kind of head as the other side."
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    says = {} if splitter is None else dict(splitter=splitter)
    found = vision_learner(dls, resnet18, pretrained=False, n_in=1, custom_head=head, normalize=False, metrics=RocAucBinary(), **says)
    names = original_names("resnet18", numbered=True)
    found.model[0].load_state_dict({k: checkpoint.state[v] for k, v in names.items() if v})
    return found


def a_group_a_stage(model):
    "Parameter groups stem, layer1 … layer4, head: what can be opened one after the other."
    body = model[0]
    return [[p for m in part for p in m.parameters()] for part in (body[:4], body[4:5], body[5:6], body[6:7], body[7:8], [model[1]])]


class OpenInTurn(Callback):
    "One more group from the top learns every `every` epochs."
    def __init__(self, every): self.every = every
    def before_epoch(self): self.learn.freeze_to(-1 - self.epoch//self.every)


class ValidateOnce(Callback):
    "Only the last epoch is validated."
    order = -9
    def before_validate(self):
        if self.epoch < self.n_epoch - 1: raise CancelValidException()


def train(
    learn, # From `learner`
    epochs, # How many
    lr=1e-3, # Largest learning rate
    cbs=(), # Further callbacks
): # Test AUC
    "`fit_one_cycle`, validated once."
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(epochs, lr, cbs=[ValidateOnce(), *cbs])
    return learn.recorder.values[-1][-1]


WAYS = [(threads, workers) for threads in (1, 2) for workers in (0, 2)]
_found = {}


def quickest(
    key, # What is tried; the answer is kept under this name
    run, # `run(workers)` makes a Learner ready and returns what is timed
    quick=False, # Try nothing: 1 thread, no workers
): # (threads, worker processes)
    "The peer's best of 1 and 2 threads, each with and without worker processes."
    if quick: return WAYS[0]
    if key not in _found:
        seconds = {}
        for threads, workers in WAYS:
            with torch_threads(threads): seconds[threads, workers], _ = seconds_of(run(workers))
        _found[key] = min(seconds, key=seconds.get)
    return _found[key]


@contextmanager
def torch_threads(
    n, # Intra-op threads
):
    "So many threads, and afterwards as many as before."
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try: yield
    finally: torch.set_num_threads(before)
