"""A disk that fills up, or a folder that becomes read-only, ends a study with one sentence; what was finished is kept."""
import errno, os, subprocess, sys
from pathlib import Path

import pytest
from test_kill_and_resume import ENV, make_table, rows, study

from ttl_nb.cli import app
from ttl_nb.study import store
from ttl_nb.study.store import Store


def end_of(command:list[str], capsys)->tuple[int,str]:
    with pytest.raises(SystemExit) as end: app(command[3:])
    return end.value.code, " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_the_store_cannot_write_any_more(code, tmp_path, monkeypatch, capsys):
    "The third run cannot be kept: the first two are, and the same command does the rest."
    table, folder, honest, written = make_table(tmp_path/"images"), tmp_path/"study", store.write_arrays, []
    def full(file, **arrays):
        if len(written) == 2: raise OSError(code, os.strerror(code), str(file))
        written.append(file); honest(file, **arrays)
    monkeypatch.setattr(store, "write_arrays", full)
    exit_code, text = end_of(study(table, folder, "inline"), capsys)
    assert exit_code == 2 and text.count("ttl-nb:") == 1 and os.strerror(code) in text and "the finished runs are kept" in text
    assert len(Store(folder).ids()) == 2
    monkeypatch.setattr(store, "write_arrays", honest)
    exit_code, _ = end_of(study(table, folder, "inline"), capsys)
    assert not exit_code and len(rows(folder)) == 10


@pytest.fixture
def small_disk(tmp_path):
    "A disk of 400 kB, where the system lets us have one."
    disk = tmp_path/"disk"; disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "none", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def test_a_real_disk_is_full(small_disk, tmp_path):
    table, folder = make_table(tmp_path/"images"), small_disk/"study"
    command = [*study(table, folder, "processes")[:-2], "--seeds", "40"]
    r = subprocess.run(command, env=dict(ENV, COLUMNS="300"), capture_output=True, text=True)
    assert r.returncode == 2 and "Traceback" not in r.stderr, r.stderr[-2000:]
    assert r.stderr.count("ttl-nb:") == 1 and ("No space left" in r.stderr or "full" in r.stderr), r.stderr
    kept = Store(folder).table()
    assert len(kept) > 0 and all(Store(folder).arrays(i) for i in kept["recipe_id"])
    assert not list((folder/"runs").glob(".*")), "half a file was left behind"
