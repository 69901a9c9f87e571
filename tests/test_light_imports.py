"A seat in a class does not pay for torch: what it imports loads neither torch nor fastai."
import importlib.util, subprocess, sys

import pytest
from project import ROOT, module_files, module_name

LIGHT = sorted({'errors', 'models.stages', 'train.recipe', 'train.freezing', 'train.recording', 'analysis.metrics',
                'models.header', 'models.ready', 'stopping',
                *(module_name(f).removeprefix('ttl_nb.') for f in module_files()
                  if any(f.parent.is_relative_to(ROOT/'ttl_nb'/o) for o in ('data', 'ui')) and f.stem != '__init__')})
HEAVY = ('torch', 'torchvision', 'fastai', 'timm')
NOT_FOR_HELP = {*HEAVY, 'numpy', 'pandas', 'scipy', 'sklearn', 'PIL', 'pydicom', 'matplotlib', 'IPython', 'joblib', 'jinja2', 'safetensors', 'pyarrow'}
OBJECTS = """
import json, sys, tempfile
from pathlib import Path
from PIL import Image
from ttl_nb.data.catalog import from_csv
from ttl_nb.data.pixels import load_pixels
from ttl_nb.data.subset import draw_subset
from ttl_nb.train.freezing import FreezingPlan
from ttl_nb.train.recipe import Recipe, from_fragment, to_fragment
from ttl_nb.train.recording import Recording, from_dict, to_dict
with tempfile.TemporaryDirectory() as folder:
    folder = Path(folder)
    for i in range(8): Image.new('L', (20, 20), 30*i).save(folder/f'{i}.png')
    (folder/'labels.csv').write_text('file,label,patient_id,split\\n' + ''.join(f'{i}.png,{"ab"[i % 2]},{i},{"train" if i < 6 else "test"}\\n' for i in range(8)))
    domain = from_csv(folder/'labels.csv')
    assert load_pixels(domain, 16, folder/'cache').shape == (8, 16, 16) and len(draw_subset(domain, 4, 0)) == 4 and domain.hash
recipe = Recipe(domain.name, n_train=4, freezing='gradual')
assert from_fragment(to_fragment(recipe)) == recipe and recipe.id and FreezingPlan('gradual').trainable(.5)
recording = Recording({})
recording.add('batch', 0, loss=1., lr=[.1], mom=.9)
assert from_dict(json.loads(json.dumps(to_dict(recording))))
"""


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


def test_a_seat():
    "Where kernels can't be forked each seat pays for all that it imports."
    heavy = {*HEAVY, 'jupyter_server', 'voila'} & loaded('import ttl_nb.ui.server, ttl_nb.ui.playground, ttl_nb.ui.trainer')
    assert not heavy, f'a seat loads {heavy}'


def test_objects_at_work():
    "Not only their import: reading a table, decoding, drawing images, naming a recipe."
    heavy = set(HEAVY) & loaded(OBJECTS)
    assert not heavy, f'Domain, Recipe, FreezingPlan or Recording load {heavy}'


@pytest.mark.parametrize('command', [(), ('study',), ('pretrain',)], ids=lambda c: ' '.join(('ttl-nb', *c)))
def test_help_of_the_command(command):
    heavy = NOT_FOR_HELP & loaded(f'from ttl_nb.cli import app\ntry: app({[*command, "--help"]!r})\nexcept SystemExit as e: assert not e.code')
    assert not heavy, f'`ttl-nb {" ".join(command)} --help` loads {heavy}'


def test_heavy_modules_are_noticed(): assert 'torch' in loaded('import torch')
