"What is built holds everything that is needed to install and run, and says what it needs."
import importlib.util, os, re, shutil, subprocess, sys, tarfile, zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from project import ROOT, project_files

DATA_FILES = ('.js', '.css', '.html', '.safetensors')
PLANTED = [f'ttl_nb/data/planted{o}' for o in DATA_FILES]


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    "Names in the source distribution and the wheel made from it, the wheel's metadata and entry points; built in a copy."
    pytest.importorskip('build')
    tree = tmp_path_factory.mktemp('tree')
    for f in project_files():
        if f.suffix == '.ipynb': continue
        (to := tree/f.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(f, to)
    for o in PLANTED: (tree/o).write_bytes(b'x')
    env = {k: v for k, v in os.environ.items() if k != 'PYTHONDONTWRITEBYTECODE'}     # setuptools warns of it
    r = subprocess.run([sys.executable, '-m', 'build', '--no-isolation', '.'], cwd=tree, env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout[-3000:]+r.stderr[-3000:]
    (sdist,), (wheel,) = (tree/'dist').glob('*.tar.gz'), (tree/'dist').glob('*.whl')
    with tarfile.open(sdist) as t: sdist_names = {o.partition('/')[2] for o in t.getnames()}
    with zipfile.ZipFile(wheel) as z:
        info = next(o for o in z.namelist() if o.endswith('.dist-info/METADATA')).removesuffix('METADATA')
        return dict(sdist=sdist_names, wheel=set(z.namelist()), log=r.stdout+r.stderr, info=info,
                    metadata=Parser().parsestr(z.read(info+'METADATA').decode()), entry_points=z.read(info+'entry_points.txt').decode())


def test_files(built):
    "Every module and data file of the package is in both; what the build reads is in the source distribution."
    package = {str(f.relative_to(ROOT)) for f in project_files() if f.is_relative_to(ROOT/'ttl_nb')} | set(PLANTED)
    for o in ('sdist', 'wheel'): assert not (lost := package-built[o]), f'not in the {o}: {sorted(lost)}'
    needed = {'settings.ini', 'setup.py', 'pyproject.toml', 'README.md', 'LICENSE', 'CHANGELOG.md'}
    assert needed <= built['sdist'], needed-built['sdist']
    assert any(o.endswith('LICENSE') for o in built['wheel'] if built['info'] in o)
    strangers = {o.split('/')[0] for o in built['wheel']}-{'ttl_nb', built['info'].rstrip('/')}
    assert not strangers, f'the wheel installs more than the package: {strangers}'


def test_metadata(built):
    "Version, licence, requirements, extras and the command."
    meta = built['metadata']
    version = re.search(r'__version__ = "(.+)"', (ROOT/'ttl_nb/__init__.py').read_text())[1]
    assert (meta['Name'], meta['Version'], meta['License-Expression']) == ('ttl_nb', version, 'Apache-2.0')
    assert meta['Requires-Python'] == '>=3.11' and meta['Summary'] and meta['Keywords'] and meta['Author']
    needs = meta.get_all('Requires-Dist')
    runtime = {re.match(r'[\w-]+', o)[0] for o in needs if 'extra ==' not in o}
    assert {'torch', 'torchvision', 'fastai', 'pydicom', 'typer', 'voila'} <= runtime, runtime
    assert set(meta.get_all('Provides-Extra')) == {'dev', 'docs', 'cluster', 'timm'}
    assert [o for o in needs if o.startswith('ray') and 'cluster' in o] and not {'ray', 'timm', 'pytest', 'nbdev', 'sphinx', 'furo'} & runtime
    assert 'ttl-nb = ttl_nb.cli:app' in built['entry_points'], built['entry_points']
    assert meta.get_payload().startswith('# '), 'README.md is the long description'


def test_no_warnings(built):
    warned = [o for o in built['log'].splitlines() if re.search('warning|deprecat', o, re.I) and 'no files found' not in o and 'no previously' not in o]
    assert not warned, '\n'.join(warned)


def test_the_command_is_installed():
    if not importlib.util.find_spec('ttl_nb.cli'): pytest.skip('no ttl_nb.cli yet')
    r = subprocess.run([Path(sys.executable).parent/'ttl-nb', '--help'], capture_output=True, text=True)
    assert r.returncode == 0 and 'study' in r.stdout, r.stderr


# What others run

def test_workflows_call_what_is_there():
    "Every `make …` and script of the workflows exists; nothing but a version is taken from a secret."
    yaml = pytest.importorskip('yaml')
    targets = set(re.findall(r'^([a-z]+(?: [a-z]+)*):', (ROOT/'Makefile').read_text(), re.M))
    targets = {o for t in targets for o in t.split()}
    flows = {f.name: yaml.safe_load(f.read_text()) for f in (ROOT/'.github/workflows').glob('*.yml')}
    assert flows.keys() == {'test.yml', 'docs.yml', 'release.yml'}
    steps = [s for flow in flows.values() for job in flow['jobs'].values() for s in job['steps']]
    called = {o for s in steps for line in re.findall(r'\bmake ([a-z ]+)', s.get('run', '')) for o in line.split()}
    assert {'docs', 'lowest', 'tryout', 'dist', 'slow'} <= called <= targets, called-targets
    assert any(s.get('run') == '.ci/run' for s in steps) and (ROOT/'.ci/run').is_file()
    assert not any('secrets.' in str(s) for s in steps)
    versions = {s['with']['python-version'] for s in steps if 'setup-python' in s.get('uses', '')}
    declared = re.search(r'requires-python = ">=([\d.]+)"', (ROOT/'pyproject.toml').read_text())[1]
    assert declared in versions, f'pyproject.toml declares Python {declared}, the workflows run {versions}'


def test_citation_is_of_this_version():
    yaml = pytest.importorskip('yaml')
    cited = yaml.safe_load((ROOT/'CITATION.cff').read_text())
    version = re.search(r'__version__ = "(.+)"', (ROOT/'ttl_nb/__init__.py').read_text())[1]
    assert (cited['cff-version'], cited['title'].split(':')[0], str(cited['version']), cited['license']) == ('1.2.0', 'ttl_nb', version, 'Apache-2.0')
    assert [a['family-names'] for a in cited['references'][0]['authors']] == ['Romero', 'Interian', 'Solberg', 'Valdes'] and cited['message']


def test_lower_bounds_can_be_taken_at_their_word():
    "tests/lowest.py states each requirement that has a lower bound, once."
    r = subprocess.run([sys.executable, ROOT/'tests/lowest.py', 'dev', 'docs'], capture_output=True, text=True)
    lines = r.stdout.split()
    assert r.returncode == 0 and all(re.fullmatch(r'[\w.-]+==[\w.]+', o) for o in lines) and len(lines) == len(set(lines))
    assert {'torch==2.14', 'torchvision==0.29', 'nbdev==3.3.26', 'sphinx==9.0'} <= set(lines)
