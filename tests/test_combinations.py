"""Every plan × schedule × initialisation on every small backbone: two steps, and what they moved."""
from itertools import product

import pytest
from combinations import check

from ttl_nb.models.stages import INITS
from ttl_nb.train.freezing import PLANS
from ttl_nb.train.recipe import SCHEDULES


@pytest.mark.parametrize("init", INITS)
@pytest.mark.parametrize("backbone", ["resnet10", "squeezenet1_1", "mobilenet_v3_small"])
def test_two_steps(backbone, init):
    for plan,schedule in product(PLANS, SCHEDULES): check(backbone, init, plan, schedule)
