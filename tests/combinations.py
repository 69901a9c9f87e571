"""Two steps of any plan × schedule × initialisation × backbone on four small images, and what they must have done."""
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch

from ttl_nb.models.checkpoint import Checkpoint
from ttl_nb.models.stages import STAGES, reads_source
from ttl_nb.models.initial import draw_all
from ttl_nb.models.backbone import create_backbone
from ttl_nb.study.gates import _wrong_rates
from ttl_nb.train.batches import PixelDataset
from ttl_nb.train.fit import start_network, train_steps
from ttl_nb.train.freezing import FreezingPlan
from ttl_nb.train.learner import make_learner, one_thread
from ttl_nb.train.recipe import Recipe, canonical
from ttl_nb.train.recording import Recording

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 32, 32), dtype=np.uint8)
LABELS = np.array([0, 1, 0, 1])


@lru_cache(1)
def start(backbone:str, init:str):
    "A network as a run with this initialisation starts from it, and a copy of its weights."
    source = Checkpoint(draw_all(create_backbone(backbone), 1).state_dict(), backbone, ("a", "b"), 32) if reads_source(init) else None
    r = canonical(Recipe("t", source="s" if source else "none", init=init, backbone=backbone, image_size=32, input="grey"))
    net = start_network(r, 2, source, PIXELS)
    return net, {k: v.clone() for k,v in net.state_dict().items()}


def two_steps(backbone:str, init:str, plan:str, schedule:str, **more)->tuple:
    "Run two steps; returns the recipe, the recording, the callback that watched, and the stages whose weights moved."
    net, state = start(backbone, init)
    net.load_state_dict(state)
    recipe = canonical(Recipe("t", source="s" if reads_source(init) else "none", init=init, backbone=backbone, freezing=plan, schedule=schedule,
                              head_solver="sgd", image_size=32, epochs=2, min_steps=0, batch_size=4, augment="none", **more))
    data, recording = PixelDataset(PIXELS, LABELS), Recording()
    with one_thread(): record = train_steps(recipe, make_learner(recipe, net, data, data), recording)
    moved = [s for s in STAGES if any(not torch.equal(v, state[k]) for k,v in net.named_parameters() if k.startswith(s + "."))]
    return recipe, recording, record, moved


def check(backbone:str, init:str, plan:str, schedule:str, **more):
    "Which stages moved, which did not, at which rates, with which BatchNorm."
    said = f"{backbone}, {init}, {plan}, {schedule}"
    recipe, recording, record, moved = two_steps(backbone, init, plan, schedule, **more)
    p = FreezingPlan(plan, recipe.batch_norm, 2)
    expected = [s for s in STAGES if s in p.trainable(0.) or s in p.trainable(.5)]
    assert moved == expected, f"{said}: {moved} moved instead of {expected}"
    assert not record.moved_while_frozen and not record.statistics_moved, said
    lr, mom = [np.array(recording.series("batch", k)[1], float) for k in ("lr", "mom")]
    assert len(lr) == 2, said
    assert not (wrong := _wrong_rates(recipe, lr, mom, 2, recording.series("share", "share"))), f"{said}: {wrong}"
    phases = [set(s) for s in recording.series("phase", "learning")[1]]
    assert phases == [set(s) for s in dict.fromkeys((p.trainable(0.), p.trainable(.5)))], said
