"Notebooks and modules mirror each other, what is public is documented, requirements stand in one place."
import ast, importlib, inspect, re, sys, tomllib
from configparser import ConfigParser
from dataclasses import is_dataclass
from enum import Enum
from importlib.metadata import packages_distributions

import pytest
from fastcore.docments import docments
from project import ROOT, module_files, module_name, notebook_files, project_files, read_notebook, source

IMAGE_BYTES = 60_000          # of one picture left in a notebook, base64
EXPORTS_NOTHING = ('index.ipynb', 'tutorials', 'howto')
NOTEBOOKS = {str(f.relative_to(ROOT/'nbs')): f for f in notebook_files()}
MODULES = {module_name(f): f for f in module_files() if f.name not in ('__init__.py', '_modidx.py')}


def default_exp(notebook): # Notebook as read
    "The module that the notebook exports, or None."
    found = [m[1] for c in notebook['cells'] if c['cell_type'] == 'code'
             for m in re.finditer(r'^#\s*\|\s*default_exp\s+(\S+)', source(c), re.M)]
    assert len(found) < 2, f'two default_exp: {found}'
    return found[0] if found else None


def requirements():
    "Names of the distributions that settings.ini states, extras too; lower case, dashes."
    cfg = ConfigParser(interpolation=None)
    cfg.read(ROOT/'settings.ini', encoding='utf-8')
    stated = '\n'.join([cfg['project']['requirements'], *cfg['extras'].values()]).split('\n')
    return {re.match(r'[\w.-]+', o.strip())[0].lower().replace('_', '-') for o in stated if o.strip()}


# Notebooks

@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebook_has_its_module(name):
    "The same address in both trees: nbs/data/30_domain.ipynb and ttl_nb/data/domain.py."
    exp = default_exp(read_notebook(NOTEBOOKS[name]))
    if name.split('/')[0] in EXPORTS_NOTHING:
        assert exp is None, f'{name} exports {exp}: the index and the tutorials export nothing'
        return
    room = re.sub(r'(^|\.)\d+_', r'\1', name.removesuffix('.ipynb').replace('/', '.'))
    assert exp == room, f'{name}: `#| default_exp` must be {room}, got {exp}'
    assert f'ttl_nb.{exp}' in MODULES, f'{name}: ttl_nb.{exp} does not exist; run `make sync`'


def test_no_module_without_notebook():
    exported = {f'ttl_nb.{default_exp(read_notebook(f))}' for f in NOTEBOOKS.values()}
    assert not (left := MODULES.keys()-exported), f'no notebook exports {sorted(left)}: remove the module with its notebook'


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_cells_have_ids(name):
    ids = [c.get('id') for c in read_notebook(NOTEBOOKS[name])['cells']]
    assert all(ids) and len(set(ids)) == len(ids), f'{name}: a cell has no id, or two have one; run `make sync`'


def left_outputs(notebook): # Notebook as read
    "What a committed notebook must not hold: outputs, but for small pictures, and execution counts."
    for i, c in enumerate(o for o in notebook['cells'] if o['cell_type'] == 'code'):
        if c.get('execution_count') is not None: yield f'code cell {i} has an execution count'
        for o in c['outputs']:
            data = o.get('data', {})
            pictures = [''.join(v) for k, v in data.items() if k.startswith('image/')]
            if not pictures or set(data)-{'text/plain'} != {k for k in data if k.startswith('image/')}:
                yield f'code cell {i} has an output of type {o["output_type"]}'
            elif sum(map(len, pictures)) > IMAGE_BYTES: yield f'code cell {i} has a picture of more than {IMAGE_BYTES} bytes'


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_no_outputs(name): assert not (left := list(left_outputs(read_notebook(NOTEBOOKS[name])))), f'{name}: {left}; run `make sync`'


def test_outputs_are_noticed():
    def left(**o): return list(left_outputs({'cells': [{'cell_type': 'code', 'execution_count': None, 'outputs': [o]}]}))
    assert left(output_type='stream', text='x') and left(output_type='display_data', data={'text/html': '<b>'})
    assert left(output_type='display_data', data={'image/png': 'x'*IMAGE_BYTES+'x'})
    assert not left(output_type='display_data', data={'image/png': 'x', 'text/plain': '<Figure>'})


# What is public is documented

def own_parameters(o): # A function or class
    "Names of the parameters that its own signature declares: not inherited ones, `*args`, `**kwargs` or `_private`."
    if inspect.isclass(o) and (issubclass(o, Enum) or not ('__init__' in vars(o) or is_dataclass(o) or hasattr(o, '_fields'))): return []
    return [k for k, p in inspect.signature(o).parameters.items()
            if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) and not k.startswith('_') and k != 'self']


def undocumented(o): # A function or class
    "What its signature leaves unsaid: a docstring, a comment beside each parameter."
    if is_dataclass(o) and (o.__doc__ or '').startswith(f'{o.__name__}('): yield 'docstring'     # the one dataclass writes
    elif not inspect.getdoc(o): yield 'docstring'
    names = own_parameters(o)
    said = docments(o, returns=False) if names else {}
    yield from (k for k in names if not said.get(k) and not has_help(inspect.signature(o).parameters[k]))


def has_help(parameter): # Of a signature
    "Is it an option of a command, whose help says what it is?"
    return any(getattr(m, 'help', None) for m in getattr(parameter.annotation, '__metadata__', ()))


@pytest.mark.parametrize('name', MODULES)
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    faults = [f'{k}: {", ".join(left)}' for k in getattr(module, '__all__', [])
              if (inspect.isclass(o := getattr(module, k)) or inspect.isfunction(o)) and (left := list(undocumented(o)))]
    assert not faults, f'{name} lacks a docstring or a comment beside a parameter:\n'+'\n'.join(faults)


def told(a, # Said
    b=2,
): return a

class Told:
    "A class."
    def __init__(self,
        a, # Said
        b, *c, **d): pass

def test_missing_documentation_is_noticed(): assert list(undocumented(told)) == ['docstring', 'b'] and list(undocumented(Told)) == ['b']


# One place

def test_requirements_stand_in_settings_ini_alone():
    project = tomllib.loads((ROOT/'pyproject.toml').read_text())['project']
    assert not {'dependencies', 'optional-dependencies', 'version', 'scripts'} & project.keys()
    assert {'dependencies', 'optional-dependencies', 'version', 'scripts', 'entry-points'} <= set(project['dynamic'])
    calls = [o for o in ast.walk(ast.parse((ROOT/'setup.py').read_text())) if isinstance(o, ast.keyword)]
    written = [o.arg for o in calls if o.arg in ('install_requires', 'extras_require') and isinstance(o.value, (ast.List, ast.Constant))]
    assert not written, f'setup.py writes out {written}: state them in settings.ini'
    others = [str(f.relative_to(ROOT)) for f in project_files() if re.match(r'(requirements.*\.txt|environment.*\.ya?ml|setup\.cfg)$', f.name)]
    assert not others, f'{others} would be a second place for requirements: settings.ini states them'


def third_party(file): # A module's file
    "Top-level names of what it imports that is neither this package nor the standard library."
    for o in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
        names = [a.name for a in o.names] if isinstance(o, ast.Import) else [o.module] if isinstance(o, ast.ImportFrom) and not o.level else []
        yield from (top for n in names if (top := n.split('.')[0]) not in {'ttl_nb', '__future__', *sys.stdlib_module_names})


def test_imports_are_required():
    "Whatever the package imports by name is stated, not left to what another library happens to bring."
    stated, found = requirements(), packages_distributions()
    missing = {f'{f.relative_to(ROOT)}: {o}' for f in module_files() for o in third_party(f)
               if not {d.lower().replace('_', '-') for d in found.get(o, [o])} & stated}
    assert not missing, f'imported, but not in settings.ini: {sorted(missing)}'


def test_no_machine_paths():
    "No file speaks of a folder of the machine that it was written on."
    pattern = re.compile(rb'(?<![\w.~/-])/(?:work|root|home|Users)/[\w.-]')
    found = [f'{f.relative_to(ROOT)}: {m[0].decode()}…' for f in project_files() if f.suffix not in ('.safetensors', '.png', '.jpg')
             and (m := pattern.search(f.read_bytes()))]
    assert not found, f'absolute machine paths: {found}'
    assert pattern.search(b'open("/' + b'home/me/x.csv")')
