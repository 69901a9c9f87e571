"The folded solutions of the tutorials run where a reader would run them: at the end of the notebook."
import re

import pytest
from project import ROOT, read_notebook, source

SOLUTION = re.compile(r'<details><summary>Solution.*?</details>', re.S)
CODE = re.compile(r'```python\n(.*?)```', re.S)
TUTORIALS = sorted(f.name for f in (ROOT/'nbs'/'tutorials').glob('0*.ipynb'))


def solutions(notebook):
    return [code for c in notebook['cells'] if c['cell_type'] == 'markdown' for told in SOLUTION.findall(source(c)) for code in CODE.findall(told)]


@pytest.mark.parametrize('name', TUTORIALS)
def test_there_are_some(name): assert solutions(read_notebook(ROOT/'nbs'/'tutorials'/name))


@pytest.mark.slow
@pytest.mark.parametrize('name', TUTORIALS)
def test_they_run(name, monkeypatch):
    import nbformat
    from nbclient import NotebookClient
    monkeypatch.setenv('IN_TEST', '1'); monkeypatch.setenv('OMP_NUM_THREADS', '1')
    nb = nbformat.read(ROOT/'nbs'/'tutorials'/name, as_version=4)
    if 'cleanup()' in nb.cells[-1].source: nb.cells.pop() # The reader tries them before the folder is gone
    nb.cells += [nbformat.v4.new_code_cell(code) for code in solutions(read_notebook(ROOT/'nbs'/'tutorials'/name))]
    NotebookClient(nb, timeout=250, kernel_name='python3', resources=dict(metadata=dict(path=str(ROOT/'nbs'/'tutorials')))).execute()
