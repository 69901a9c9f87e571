"The files of the project, for the tests that read them."
import json, subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = {'.git', '.venv', 'build', 'dist', 'out', '_proc', '_docs', '__pycache__', '.ipynb_checkpoints', '.pytest_cache', '.hypothesis'}


def project_files(root=ROOT): # Folder of the project
    "What git tracks or would track; without git, everything but what is built."
    git = subprocess.run(['git', 'ls-files', '-z', '-co', '--exclude-standard'], cwd=root, capture_output=True, text=True)
    if git.returncode == 0 and git.stdout: return sorted(f for o in set(git.stdout.split('\0')) if o and (f := root/o).is_file())
    return sorted(f for f in root.rglob('*') if f.is_file() and not LEFT_OUT & set(f.relative_to(root).parts)
                  and not any(p.endswith('.egg-info') for p in f.relative_to(root).parts))


def notebook_files(root=ROOT): # Folder of the project
    "Every notebook under `nbs`."
    return sorted(f for f in (root/'nbs').rglob('*.ipynb') if '.ipynb_checkpoints' not in f.parts)


def read_notebook(file): return json.loads(Path(file).read_text(encoding='utf-8'))

def source(cell): return ''.join(cell['source'])


def module_files(root=ROOT): # Folder of the project
    "Every module of the package."
    return sorted(f for f in (root/'ttl_nb').rglob('*.py') if '__pycache__' not in f.parts)


def module_name(file, root=ROOT): # A module's file
    "`ttl_nb/data/domain.py` -> `ttl_nb.data.domain`; a package's `__init__.py` -> the package."
    parts = file.relative_to(root).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)
