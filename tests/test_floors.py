"Imports run downward only: a room imports its own floor and those below it (data < models < … < cli)."
import ast, shutil

from project import ROOT, module_files, module_name

FLOORS = ('data', 'models', 'analysis', 'train', 'study', 'ui', 'cli')   # study/protocols is part of study
GROUND = ('', '__version__', '_modidx', 'errors', 'stopping', 'atomic', 'figures', 'pictures')  # below all floors: the package itself, its one kind of error


def imported_names(file, module): # A module's file, and its dotted name
    "`(line, dotted name)` of every import of ttl_nb in `file`: at the top, in a function, relative or by `import_module('…')`."
    package = module.split('.') if file.name == '__init__.py' else module.split('.')[:-1]
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'), str(file))):
        if isinstance(node, ast.Import): names = [o.name for o in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join([*package[:len(package)-node.level+1], *filter(None, [node.module])]) if node.level else node.module
            names = [f'{base}.{o.name}' for o in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, 'attr', getattr(node.func, 'id', ''))
            names = [str(node.args[0].value)] if called in ('import_module', '__import__') else []
        else: continue
        for o in names:
            if o.split('.')[0] == 'ttl_nb': yield node.lineno, o


def floor(name): # Dotted name of a module, or of what is imported from one
    "Number of its floor: 0 the ground, 1 data …; None where there is no such floor."
    room = (name.split('.')+[''])[1]
    if room in FLOORS: return FLOORS.index(room)+1
    return 0 if room in GROUND else None


def upward_imports(root): # Folder that holds ttl_nb
    "One line for each import that runs upward, and each module that stands on no floor."
    faults = []
    for f in module_files(root):
        module = module_name(f, root)
        if (here := floor(module)) is None: faults.append(f'{module} stands on no floor ({" < ".join(FLOORS)})')
        else: faults += [f'{f.relative_to(root)}:{line} imports {o}, which is above' for line, o in imported_names(f, module)
                         if (floor(o) or 0) > here]
    return faults


def test_imports_run_downward(): assert not (faults := upward_imports(ROOT)), '\n'.join(faults)


def test_upward_imports_are_found(tmp_path):
    "Each way to write an import, planted in a copy."
    shutil.copytree(ROOT/'ttl_nb', tmp_path/'ttl_nb', ignore=shutil.ignore_patterns('__pycache__'))
    planted = {'data/planted_a.py': 'from ttl_nb.train.fit import fit', 'data/planted_b.py': 'from ..models import backbone',
               'data/planted_c.py': 'from .. import study', 'models/planted_d.py': 'def f():\n    import ttl_nb.analysis.metrics',
               'study/planted_e.py': 'import importlib\nx = importlib.import_module("ttl_nb.ui.job")',
               'study/protocols/planted_f.py': 'from ...cli import app', 'analysis/planted_g.py': 'from ttl_nb import train', 'errors.py': '# planted\nfrom .data.domain import Domain',
               'train/planted_h.py': 'if True:\n    from ..study.store import Store'}
    allowed = {'study/planted_i.py': 'from .protocols import x\nfrom ..data.domain import Domain\nfrom ttl_nb import __version__',
               'data/planted_j.py': 'from .domain import Domain\nfrom fastai.data import x', 'ui/planted_k.py': 'import ttl_nb.study.study'}
    for o, code in {**planted, **allowed}.items():
        (tmp_path/'ttl_nb'/o).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path/'ttl_nb'/o).write_text(code+'\n')
    (tmp_path/'ttl_nb/utils.py').write_text('')
    faults = [o for o in upward_imports(tmp_path) if 'which is above' in o]
    assert sorted(o.split(':')[0] for o in faults) == sorted(f'ttl_nb/{o}' for o in planted), faults
    assert any('ttl_nb.utils stands on no floor' in o for o in upward_imports(tmp_path))
