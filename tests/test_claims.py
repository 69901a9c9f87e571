"Verdicts are right at the promised rates, and `ttl-nb replicate` keeps its promises: gates first, shared runs once, rows as said."
import json, sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from project import ROOT
from typer.testing import CliRunner

from ttl_nb.cli import app
from ttl_nb.data.phantom import draw_phantoms, phantom
from ttl_nb.errors import InputError
from ttl_nb.study import replicate as replication
from ttl_nb.study.gates import GateFailed
from ttl_nb.study.material import Material
from ttl_nb.study.replicate import PROTOCOLS, QUICK, Scale, arms_wanted, make_study, protocols_named, studies_wanted
from ttl_nb.study.study import Study

sys.path.insert(0, str(ROOT/'benchmarks'))
from calibration import ALLOWED, SHARP, Model, draw_arms, draw_verdict, rates, scenarios

KEYS = ['claim', 'verdict', 'estimate', 'low', 'high', 'seeds', 'seeds_needed', 'patients_needed']


# Rates

def test_planted_difference_is_there():
    "The model's mean AUCs are what was planted."
    m = Model(patients=4000)
    found = [np.mean([i.auc for i in a.influences]) for a in draw_arms(np.random.default_rng(0), m, (.83, .80), 100, 100)]
    assert found == pytest.approx([.83, .80], abs=.01)


@pytest.mark.parametrize('question', [(0., 'superiority', 0.), (.03, 'superiority', .03), (.02, 'equivalence', .02)])
def test_wrong_verdicts_are_rare(question):
    "200 studies on the margin: the count of each wrong verdict is one that a rate of 5 % gives 999 times in 1000."
    model = SHARP if question[1] == 'equivalence' else Model(patients=100)
    found = rates(lambda rng: draw_verdict(rng, model, *question, seeds=10), 200)
    assert max(found['supported'], found['contradicted'])*200 <= 21, found


def test_a_large_difference_is_found():
    found = rates(lambda rng: draw_verdict(rng, Model(), .1, 'superiority', 0., seeds=10), 50)
    assert found['supported'] > .9 and found['contradicted'] == 0


@pytest.mark.slow
@pytest.mark.parametrize('name', scenarios())
def test_rates(name):
    "1000 studies each: no wrong verdict more often than promised."
    found = rates(scenarios()[name], 1000)
    assert max(found['supported'], found['contradicted']) <= ALLOWED, found


# Protocols

def test_ten_protocols_with_their_own_numbers():
    assert [p.number for p in PROTOCOLS.values()] == list(range(1, 11))
    for p in PROTOCOLS.values(): assert p.claim.endswith('.') and p.origin and p.expected and len(p.arms) > 1


def test_shared_arms_are_run_once():
    "The arms of all claims are fewer than the sum of their arms, and none is wanted twice."
    every = [w for p in PROTOCOLS.values() for w in arms_wanted(p, QUICK).values()]
    once = [w for arms in studies_wanted(list(PROTOCOLS.values()), QUICK).values() for w in arms]
    assert len(once) == len(set(once)) == len(set(every)) < len(every)


def small(n=300, budget=dict(epochs=1, min_steps=0)): # A target and one source
    return Material(phantom('phantom-hernia', n, size=32), dict(same=phantom('phantom-chest', 90, size=32)), 32, 2, budget=budget)


def test_only_wanted_runs_are_in_a_study(tmp_path):
    "No plan, initialisation, size or seed that no protocol asked for."
    m, scale = small(), Scale((20, 30), None, False, dict(epochs=1, min_steps=0))
    protocols = protocols_named(['changing', 'reuse'])
    sources = m.sources(['same'], tmp_path/'sources', 'inline')
    for fields,arms in studies_wanted(protocols, scale).items():
        study = make_study(m, sources, fields, arms, scale, tmp_path)
        asked = {(w.freezing, w.init) for w in arms}
        assert {(r.freezing, r.init) for _,r in study.grid} == asked
        assert len(study.grid) == len(arms)*2*20 and len({r.id for _,r in study.grid}) == len(study.grid)
    more = make_study(m, sources, (), [PROTOCOLS['changing'].arms['fine-tuned']], replace(scale, n_train=(20, 201)), tmp_path) if len(m.target.splits()[0].train) > 201 else None
    assert more is None or sum(r.n_train == 201 for _,r in more.grid) == 10


def test_a_failed_gate_stops_the_verdict(tmp_path, monkeypatch):
    "The fault and its study are named, and nothing is judged."
    def fail(self): raise GateFailed("gate 'planted' failed: as planted")
    monkeypatch.setattr(Study, 'gates', fail)
    monkeypatch.setattr(replication, 'answer', lambda *_: pytest.fail('judged'))
    with pytest.raises(GateFailed, match="study 'base': gate 'planted' failed"):
        replication.replicate(protocols_named(['changing']), small(), Scale((20,), 2, False, dict(epochs=1, min_steps=0)), tmp_path, 'inline')


def test_a_missing_role_is_named(tmp_path):
    with pytest.raises(InputError, match='--other'): replication.replicate(protocols_named(['5']), small(), QUICK, tmp_path, 'inline')


# The command

def write_table(folder, name, n): # Tiny phantoms as files
    domain = phantom(name, n, size=32)
    folder.mkdir()
    rows = ['file,label,patient_id,split']
    labels = domain.labels.any(1) if domain.multi_label else domain.labels
    for i,(x, label, patient, split) in enumerate(zip(draw_phantoms(domain.items['file']), labels, domain.patients, domain.items['split'])):
        Image.fromarray(x).save(folder/f'{i}.png')
        rows.append(f'{i}.png,{"yes" if label else "no"},{patient},{split}')
    (folder/'labels.csv').write_text('\n'.join(rows))


@pytest.mark.parametrize('args,says', [
    (['onecycle'], 'one_cycle'), (['all', '--data', 'nowhere'], '--data'), (['all', '--same', 'x'], '--same'), (['5', '--published'], '--published'),
    (['all', '--halves', 'generic'], '--halves')])
def test_faults_are_named(args, says):
    with pytest.raises(InputError, match=says): CliRunner().invoke(app, ['replicate', *args], catch_exceptions=False)


def test_tables_to_verdicts(tmp_path):
    "Data in folders, one claim: a row with the promised keys, a page and a picture; what is there is not run again."
    write_table(tmp_path/'hearts', 'phantom-hernia', 400); write_table(tmp_path/'chests', 'phantom-chest', 90)
    args = ['replicate', 'changing', '--data', str(tmp_path), '--target', 'hearts', '--same', 'chests', '--quick', '--n-train', '20', '--seeds', '2', '--pretrainings', '1',
            '--image-size', '32', '--engine', 'inline', '--folder', str(tmp_path/'out'), '--json', str(tmp_path/'rows.json')]
    said = CliRunner().invoke(app, args, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    row, = json.loads((tmp_path/'rows.json').read_text())
    assert list(row) == KEYS and row['claim'] == 'changing' and row['verdict'] in ('supported', 'contradicted', 'not resolved') and row['seeds'] == 2
    assert {'claims.md', 'verdicts.json', '03-changing.svg', 'base', 'sources'} <= {f.name for f in (tmp_path/'out').iterdir()}
