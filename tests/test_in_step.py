"Notebooks are clean and the package is what they export. Compared in a copy: the tree is left as it is, git is not asked."
import os, shutil, subprocess, sys
from pathlib import Path

import pytest
from project import ROOT

pytestmark = pytest.mark.skipif(not (Path(sys.executable).parent/'nbdev-export').exists(), reason='nbdev is not installed here')
WAY_OUT = '`make sync` cleans the notebooks and exports them (nbdev-update first, if it was the module that was edited).'


def run(*cmd, cwd):
    env = dict(os.environ, PATH=f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}')
    r = subprocess.run(cmd, cwd=cwd, env=env, capture_output=True, text=True)
    assert r.returncode == 0, f'{" ".join(cmd)} failed:\n{r.stdout}\n{r.stderr}'


def contents(root): # Folder of the project
    "Bytes of every notebook and module by relative name."
    files = [*(root/'nbs').rglob('*.ipynb'), *(root/'ttl_nb').rglob('*.py')]
    return {str(f.relative_to(root)): f.read_bytes() for f in files if not {'.ipynb_checkpoints', '__pycache__'} & set(f.parts)}


def copy_project(root, to):
    "Copy what clean, export and readme read."
    for o in ('nbs', 'ttl_nb'):
        shutil.copytree(root/o, to/o, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
    for o in ('pyproject.toml', 'settings.ini', 'setup.py', 'README.md'): shutil.copy2(root/o, to/o)


def out_of_step(root): # Folder holding a copy of the project, which is altered
    "Names of the notebooks and modules that clean and export change, add or would not write."
    before = contents(root)
    run('nbdev-clean', cwd=root)
    run('nbdev-export', cwd=root)
    after = contents(root)
    return sorted(f for f in before.keys() | after.keys() if before.get(f) != after.get(f))


def test_notebooks_are_clean_and_exported(tmp_path):
    copy_project(ROOT, tmp_path)
    files = out_of_step(tmp_path)
    assert not files, f'Not clean, or not in step with the package: {", ".join(files)}. {WAY_OUT}'


def test_edits_are_noticed(tmp_path):
    "An edited module, a notebook that was run."
    copy_project(ROOT, tmp_path)
    out_of_step(tmp_path)       # whatever there was is mended
    module, notebook = tmp_path/'ttl_nb/data/domain.py', tmp_path/'nbs/data/30_domain.ipynb'
    module.write_text(module.read_text()+'\nx = 1\n')
    notebook.write_text(notebook.read_text().replace('"execution_count": null', '"execution_count": 7', 1))
    assert out_of_step(tmp_path) == ['nbs/data/30_domain.ipynb', 'ttl_nb/data/domain.py']


def test_readme_is_the_index_notebook(tmp_path):
    made = tmp_path/'README.md'
    run('make', '-s', '-o', 'install', 'readme', f'VENV={Path(sys.executable).parents[1]}', f'README={made}', cwd=ROOT)
    assert made.read_text() == (ROOT/'README.md').read_text(), 'README.md is not what nbs/index.ipynb gives: run `make readme`.'
