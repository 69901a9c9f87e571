"A seat in a class does not pay for torch: what it imports loads neither torch nor fastai."
import importlib.util, subprocess, sys

import pytest

LIGHT = ['data.domain', 'data.catalog', 'data.subset', 'data.pixels', 'train.recipe', 'train.freezing', 'train.recording', 'analysis.metrics']
HEAVY = ('torch', 'torchvision', 'fastai')


def loaded(code): # Python code, run in a process of its own
    "Top-level names of the modules loaded after `code`."
    r = subprocess.run([sys.executable, '-c', f'{code}\nimport sys; print(*sorted({{o.split(".")[0] for o in sys.modules}}), sep="\\n", file=sys.stderr)'],
                       capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    return set(r.stderr.split())


def exists(name): # Dotted name of a module
    try: return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError: return False


def test_the_package_itself():
    heavy = {*HEAVY, 'pandas', 'numpy', 'matplotlib', 'IPython'} & loaded('import ttl_nb')
    assert not heavy, f'`import ttl_nb` loads {heavy}'


@pytest.mark.parametrize('name', LIGHT)
def test_light_modules(name):
    if not exists(f'ttl_nb.{name}'): pytest.skip(f'no ttl_nb.{name} yet')
    heavy = set(HEAVY) & loaded(f'import ttl_nb.{name}')
    assert not heavy, f'`import ttl_nb.{name}` loads {heavy}'


def test_help_of_the_command():
    if not exists('ttl_nb.cli'): pytest.skip('no ttl_nb.cli yet')
    heavy = {*HEAVY, 'pandas'} & loaded('import sys\nfrom ttl_nb.cli import app\ntry: app(["--help"])\nexcept SystemExit as e: assert not e.code')
    assert not heavy, f'`ttl-nb --help` loads {heavy}'


def test_heavy_modules_are_noticed(): assert 'torch' in loaded('import torch')
