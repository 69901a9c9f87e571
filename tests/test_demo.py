"The demo, as a person starts it: from an empty folder, without a network."
import json, os, shutil, subprocess, sys
from pathlib import Path

import pandas as pd
import pytest

COMMAND = str(Path(sys.executable).with_name('ttl-nb'))


def alone(): # True where a process can be put into a network namespace of its own
    return bool(shutil.which('unshare')) and subprocess.run(['unshare', '-rn', 'true'], capture_output=True).returncode == 0


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    "Folder and output of `ttl-nb demo --quick` with two seeds, every network interface down where that can be had."
    folder = tmp_path_factory.mktemp('empty')
    env = dict(os.environ, HOME=str(folder/'home'), TTL_NB_CACHE=str(folder/'cache'))
    r = subprocess.run([*(['unshare', '-rn'] if alone() else []), COMMAND, 'demo', '--quick', '--seeds', '2', '--no-open'],
                       cwd=folder, env=env, capture_output=True, text=True, timeout=280)
    assert r.returncode == 0, r.stderr + r.stdout
    return folder, r.stdout


def test_report_and_table_stand_where_it_was_started(demo):
    folder, said = demo
    page = (folder/'ttl-nb-demo'/'quick'/'report.html').read_text(encoding='utf-8')
    assert 'report.html' in said and 'phantom-pneumonia' in page and 'http://' not in page.replace('http://www.w3.org', '')
    assert 'These images are simulated.' in page
    runs = pd.read_parquet(folder/'ttl-nb-demo'/'quick'/'results.parquet')
    assert set(runs['source']) == {'none', 'phantom-natural', 'phantom-chest'} and set(runs['n_train']) == {50, 200}


def test_gates_were_asked_and_hold(demo):
    gates = json.loads((demo[0]/'ttl-nb-demo'/'quick'/'gates.json').read_text())
    assert {g['name'] for g in gates} >= {'shuffled labels give chance'} and all(g['passed'] for g in gates)


def test_every_seed_took_another_pretraining(demo):
    runs = pd.read_parquet(demo[0]/'ttl-nb-demo'/'quick'/'results.parquet')
    assert (runs[runs['source'] == 'phantom-chest'].groupby(['n_train', 'freezing'])['checkpoint'].nunique() == 2).all()


@pytest.mark.parametrize('wrong, says', [(['--target', 'phantom-skull'], 'phantom-hernia'), (['--seeds', '0'], 'at least 1')])
def test_what_cannot_be_shown_is_said(wrong, says, tmp_path):
    r = subprocess.run([COMMAND, 'demo', *wrong], cwd=tmp_path, capture_output=True, text=True)
    assert r.returncode == 2 and says in r.stderr and not list(tmp_path.iterdir())
