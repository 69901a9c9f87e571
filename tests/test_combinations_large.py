"""The large backbones: every plan × schedule, with the initialisations in turn; all of them, which takes minutes, by `make slow`."""
from itertools import product

import pytest
from combinations import check

from ttl_nb.models.stages import INITS
from ttl_nb.train.freezing import PLANS
from ttl_nb.train.recipe import SCHEDULES


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "densenet121"])
def test_two_steps(backbone, init):
    for i,(plan,schedule) in enumerate(product(PLANS, SCHEDULES)):
        if INITS[i % len(INITS)] == init: check(backbone, init, plan, schedule)


@pytest.mark.slow
@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("backbone", ["resnet18", "resnet50", "densenet121"])
def test_two_steps_of_everything(backbone, init):
    for plan,schedule in product(PLANS, SCHEDULES): check(backbone, init, plan, schedule)
