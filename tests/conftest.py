"Fixtures that several test files share."
import ctypes, gc, os
from pathlib import Path
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="session")
def real_data() -> Path:
    "Folder of the real image sets: TTL_NB_REAL_DATA, or ../shared/data beside the repository."
    folder = Path(os.environ.get("TTL_NB_REAL_DATA") or Path(__file__).parents[1]/"../shared/data").resolve()
    if not (folder/"chest_kermany"/"labels.csv").is_file():
        pytest.skip(f"no real images in {folder}: set TTL_NB_REAL_DATA to the folder that holds chest_kermany, chest_nih, knee_oai and natural_cifar10")
    return folder


@pytest.fixture(autouse=True)
def safe_path():
    "The command has its workers look for no module where the user works: a test that calls it in this process must not have the next one's scripts do so."
    before = os.environ.get('PYTHONSAFEPATH')
    yield
    if before is None: os.environ.pop('PYTHONSAFEPATH', None)
    else: os.environ['PYTHONSAFEPATH'] = before


@pytest.fixture(autouse=True, scope="module")
def memory_back():
    "What a file's networks took goes back to the system: glibc keeps freed gigabytes otherwise, of each of the processes that test side by side."
    yield
    gc.collect()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None): trim(0)


@pytest.fixture
def ttl_nb(capsys, monkeypatch):
    "The command in this process, as a function of a folder to start it from and its words: exit code and what it printed."
    def run(folder, *words):
        from ttl_nb.cli import app
        monkeypatch.chdir(folder); capsys.readouterr()
        with pytest.raises(SystemExit) as end: app([str(w) for w in words])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=end.value.code, stdout=said.out, stderr=said.err)
    return run
