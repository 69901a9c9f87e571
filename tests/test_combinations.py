"""Two steps of plan × schedule × initialisation × backbone, and what they moved: the initialisations in turn; every one of them, and resnet50, which takes minutes, by `make slow`."""
from itertools import product

import pytest
from combinations import check

from ttl_nb.models.stages import INITS
from ttl_nb.train.freezing import PLANS
from ttl_nb.train.recipe import SCHEDULES

BACKBONES = ["resnet10", "squeezenet1_1", "mobilenet_v3_small", "resnet18", "densenet121"]


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_two_steps(backbone, init):
    "Each backbone takes every plan with every schedule; another backbone takes them with other initialisations."
    for i,(plan,schedule) in enumerate(product(PLANS, SCHEDULES), BACKBONES.index(backbone)):
        if INITS[i % len(INITS)] == init: check(backbone, init, plan, schedule)


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("backbone", [*BACKBONES, "resnet50"])
def test_two_steps_of_everything(backbone, init):
    for plan,schedule in product(PLANS, SCHEDULES): check(backbone, init, plan, schedule)
