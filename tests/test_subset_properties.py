"What holds for every draw: nested, stratified, patients before second images, independent of the table's order."
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from ttl_nb.data.domain import Domain
from ttl_nb.data.subset import draw_subset, largest_subset


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for i in range(60): (folder/f"{i}.png").touch()
    return folder


@st.composite
def tables(draw):
    "Rows of (class, patient): 2 to 4 classes, all of them present; patients may have images of several classes."
    n_classes = draw(st.integers(2, 4))
    rows = draw(st.lists(st.tuples(st.integers(0, n_classes - 1), st.integers(0, 15)), min_size=6, max_size=50))
    return [(c, 20 + c) for c in range(n_classes)] + rows


def _domain(folder, rows, order=None):
    items = pd.DataFrame({"file": [f"{i}.png" for i in range(len(rows))], "label": [f"c{c}" for c, _ in rows],
                          "patient": [f"p{p}" for _, p in rows]})
    return Domain("d", items if order is None else items.iloc[order], root=folder)


quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(rows=tables(), seed=st.integers(0, 1000), balance=st.sampled_from(["balanced", "prevalence"]), data=st.data())
def test_every_draw(folder, rows, seed, balance, data):
    d = _domain(folder, rows)
    largest = largest_subset(d, balance)
    whole = draw_subset(d, largest, seed, balance)
    assert len(set(whole)) == largest and (largest == len(d) or balance == "balanced")
    counts = np.stack([(d.labels[whole] == c).cumsum() for c in range(len(d.classes))], 1)
    share = np.full(len(d.classes), 1/len(d.classes)) if balance == "balanced" else np.bincount(d.labels)/len(d)
    ahead = counts - np.arange(1, largest + 1)[:, None]*share
    assert (ahead < 1).all() and (balance == "prevalence" or (ahead > -1).all())
    least = int((counts > 0).all(1).argmax()) + 1
    n = data.draw(st.integers(least, largest))
    assert (draw_subset(d, n, seed, balance) == whole[:n]).all()  # nested
    order = data.draw(st.permutations(range(len(d))))             # independent of the table's order
    other = _domain(folder, rows, order)
    assert list(other.names[draw_subset(other, n, seed, balance)]) == list(d.names[whole[:n]])


@quick
@given(rows=tables(), seed=st.integers(0, 1000), balance=st.sampled_from(["balanced", "prevalence"]))
def test_patients_come_once_before_any_comes_twice(folder, rows, seed, balance):
    "Where each patient has one class: within it, nobody's next image comes before everybody's last round is over."
    rows = [(c, 100*c + p) for c, p in rows]
    d = _domain(folder, rows)
    whole = draw_subset(d, largest_subset(d, balance), seed, balance)
    for c in range(len(d.classes)):
        mine = d.patients[whole[d.labels[whole] == c]]
        nth = pd.Series(mine).groupby(mine).cumcount().to_numpy()
        assert (np.diff(nth) >= 0).all()
        everyone = len(set(d.patients[d.labels == c]))
        assert len(set(mine[:everyone])) == min(len(mine), everyone)


@quick
@given(rows=tables(), seed=st.integers(0, 1000), data=st.data())
def test_only_the_pool_is_drawn_from(folder, rows, seed, data):
    d = _domain(folder, rows)
    pool = [*range(len(d.classes)), *data.draw(st.lists(st.integers(len(d.classes), len(d) - 1), unique=True))]
    assert set(draw_subset(d, len(pool), seed, "prevalence", pool)) == set(pool)


def test_seeds_draw_different_images_and_each_class_comes_first_at_times(folder):
    d = _domain(folder, [(i % 2, i) for i in range(60)])
    draws = [draw_subset(d, 10, seed) for seed in range(40)]
    assert len({tuple(sorted(x)) for x in draws}) > 35
    assert 8 < sum(d.labels[x[0]] for x in draws) < 32
    assert np.bincount(np.concatenate(draws), minlength=60).max() < 20 # expected 6.7 each
