"""A store that another process holds, two studies in one folder, files that change or go between two runs, a clock that is set back."""
import os, sqlite3, subprocess, sys, threading, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_full_disk import end_of
from test_kill_and_resume import make_table, rows, study
from test_report import invented_run, make_study

from ttl_nb.cli import app
from ttl_nb.data import domain as domain_room, pixels
from ttl_nb.data.catalog import from_csv
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError
from ttl_nb.study import store as store_room
from ttl_nb.study.results import Results, write_cases
from ttl_nb.study.store import Store


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch): monkeypatch.setenv("TTL_NB_CACHE", str(tmp_path/"cache"))


@pytest.fixture
def finished(tmp_path): return make_study(tmp_path/"made", seeds=2, n_train=[10], freezing=["head", "full"]).folder


def holds(folder, exclusive=False):
    "Another process's connection that keeps the index to itself."
    db = sqlite3.connect(folder/"study.sqlite", isolation_level=None)
    if exclusive: db.execute("PRAGMA locking_mode=EXCLUSIVE")
    db.execute("BEGIN EXCLUSIVE"); db.execute("CREATE TABLE IF NOT EXISTS theirs (x)")
    return db


# The index is held by another program

def test_the_message_says_what_to_do_within_bounded_time(finished, monkeypatch):
    assert store_room.PATIENCE <= 30
    monkeypatch.setattr(store_room, "PATIENCE", .3)
    store, run = Store(finished), Results(finished)
    db = holds(finished)
    row = store.table().iloc[0].to_dict() if store.table() is not None else {}
    start = time.monotonic()
    with pytest.raises(InputError, match="database is locked.*the finished runs are kept: another program holds its study.sqlite: end it, and give the same command again"):
        with store._written(), store._connect() as mine: mine.execute("DELETE FROM runs WHERE recipe_id = 'x'")
    assert time.monotonic() - start < 5
    assert len(store.ids()) == len(run.runs), "a reader is not kept out by a writer"
    db.execute("ROLLBACK"); db.close()
    with store._written(), store._connect() as mine: mine.execute("DELETE FROM runs WHERE recipe_id = 'x'")


def test_a_report_while_the_index_is_held(finished, monkeypatch, capsys):
    monkeypatch.setattr(store_room, "PATIENCE", .3)
    for f in finished.glob("study.sqlite-*"): f.unlink()
    db = sqlite3.connect(finished/"study.sqlite"); db.execute("PRAGMA journal_mode=DELETE"); db.close()
    db = holds(finished)
    with pytest.raises(SystemExit) as end: app(["report", str(finished)])
    said = " ".join(capsys.readouterr().err.split())
    assert end.value.code == 2 and "locked" in said and "another program holds its study.sqlite: end it" in said
    db.close()


def test_an_index_that_is_none(finished):
    (finished/"study.sqlite").write_bytes(b"no database" * 100)
    for f in finished.glob("study.sqlite-*"): f.unlink()
    with pytest.raises(InputError, match="file is not a database.*is damaged: put it right from a copy"): Store(finished)


# Two studies in one folder

def test_a_second_study_at_the_same_time_is_turned_away(finished):
    with Store(finished).alone():
        with pytest.raises(InputError, match=rf"in use by another study \(process {os.getpid()} on .*\): wait until it is done or end it, or give another `folder` \(--folder\)"):
            with Store(finished).alone(): pass
    with Store(finished).alone(): pass


def test_one_that_was_killed_keeps_nobody_out(finished):
    code = f"import sys, time; from ttl_nb.study.store import Store\nwith Store({str(finished)!r}).alone(): print('in', flush=True); time.sleep(60)"
    other = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "in\n"
    with pytest.raises(InputError, match=f"process {other.pid} on"):
        with Store(finished).alone(): pass
    other.kill(); other.wait()
    with Store(finished).alone(): pass


def test_another_study_later_in_the_same_folder(tmp_path, capsys):
    "Its table is its own: runs of both are kept, nothing of the first is shown, and the first can be asked for again."
    a, b = make_table(tmp_path/"one"), make_table(tmp_path/"two", 100)
    folder = tmp_path/"study"
    def command(table, seeds): return ["ttl-nb"]*3 + ["study", "--target", str(table), "--source", "none", "--freezing", "head", "--n-train", "10", "--seeds", str(seeds), "--image-size", "16",
                                                     "--epochs", "1", "--engine", "inline", "--folder", str(folder), "--json", str(folder.with_suffix(".json"))]
    assert not end_of(command(a, 2), capsys)[0]
    first = rows(folder)
    assert not end_of(command(b, 3), capsys)[0]
    second = rows(folder)
    assert len(second) == 3 and not set(second["recipe_id"]) & set(first["recipe_id"]) and len(Store(folder).ids()) == 5
    assert len(Results(folder).cases) == 100 and {g["name"] for g in Results(folder).gates}
    times = {i: Store(folder).file(i).stat().st_mtime_ns for i in first["recipe_id"]}
    assert not end_of(command(a, 2), capsys)[0]
    pd.testing.assert_frame_equal(rows(folder), first)
    assert times == {i: Store(folder).file(i).stat().st_mtime_ns for i in times}, "finished runs were repeated"


def test_a_study_that_was_broken_off_at_its_start_shows_nothing_of_the_one_before(finished, monkeypatch):
    "Labels of one and runs of the other would be a result that nobody measured."
    from ttl_nb.study import study as study_room
    (monkey := Results(finished)).runs
    def killed(study): write_cases(study); raise KeyboardInterrupt
    monkeypatch.setattr(study_room, "write_cases", killed)
    from test_report import make_domain, make_source
    other = study_room.Study(make_domain(finished.parent/"other", "other", n=90), {"none": None}, n_train=[10], freezing=["head"], seeds=1, folder=finished, image_size=16)
    with pytest.raises(KeyboardInterrupt): other.run("inline")
    with pytest.raises(InputError, match="holds no study.json"): Results(finished)
    assert len(Store(finished).ids()) == len(monkey.runs)


# Files that change, or go

@pytest.fixture
def images(tmp_path): return make_table(tmp_path/"images")


def change(file): Image.fromarray(255 - np.asarray(Image.open(file))).save(file)


def test_an_image_that_changed_after_the_table_was_read(images):
    "Its old content was hashed into every recipe: the new one must not be trained on under that name."
    d = from_csv(images)
    assert d.hash
    change(images.parent/"3.png")
    with pytest.raises(InputError, match=r"1 of 120 images changed since the table was read \(.*3.png\): start again"): load_pixels(d, 16)
    assert not list(pixels.cache_folder().glob("pixels-*")), "what was decoded of another content was kept"
    again = from_csv(images)
    assert again.hash != d.hash and load_pixels(again, 16).shape == (120, 16, 16)


def test_what_was_decoded_before_stays_what_was_hashed(images):
    d = from_csv(images)
    x = np.array(load_pixels(d, 16))
    change(images.parent/"3.png"); (images.parent/"4.png").unlink()
    assert (load_pixels(d, 16) == x).all()


def test_a_change_while_images_are_decoded(images, monkeypatch):
    d, honest = from_csv(images), pixels._decode_into
    def slow(*args):
        change(images.parent/"7.png")
        return honest(*args)
    monkeypatch.setattr(pixels, "_decode_into", slow)
    with pytest.raises(InputError, match="7.png"): load_pixels(d, 16)
    with pytest.raises(InputError, match="7.png"): load_pixels(sorted(images.parent.glob("*.png")), 16)


def test_a_change_that_hides_its_time(images):
    "The same size, and the time of the last change set back, as some copying programs do."
    file = images.parent/"3.png"
    Image.fromarray(np.zeros((32, 32), np.uint8)).save(images.parent/"3.bmp"); file = images.parent/"3.bmp"
    before, stat = domain_room.file_digests([file]), file.stat()
    data = bytearray(file.read_bytes()); data[-1] ^= 255
    file.write_bytes(data); os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_size == stat.st_size and file.stat().st_mtime_ns == stat.st_mtime_ns
    assert domain_room.file_digests([file]) != before


def test_images_that_go_between_two_runs(images, tmp_path, capsys):
    command = [*study(images, tmp_path/"study", "inline")[:3], "study", "--target", str(images), "--source", "none", "--freezing", "head", "--n-train", "10", "--seeds", "2", "--image-size", "16", "--epochs", "1",
               "--engine", "inline", "--folder", str(tmp_path/"study"), "--json", str(tmp_path/"study.json")]
    assert not end_of(command, capsys)[0]
    first = rows(tmp_path/"study")
    kept = (images.parent/"5.png").read_bytes(); (images.parent/"5.png").unlink()
    code, said = end_of(command, capsys)
    assert code == 2 and "1 of 120 files are missing (5.png)" in said
    change(images.parent/"6.png"); (images.parent/"5.png").write_bytes(kept)
    assert not end_of(command, capsys)[0]
    second = rows(tmp_path/"study")
    assert len(second) == 2 and not set(second["recipe_id"]) & set(first["recipe_id"]), "runs on the old image were taken for runs on the new one"


def test_a_run_whose_file_is_gone_is_done_again(images, tmp_path, capsys):
    command = ["ttl-nb"]*3 + ["study", "--target", str(images), "--source", "none", "--freezing", "head", "--n-train", "10", "--seeds", "2", "--image-size", "16", "--epochs", "1", "--engine", "inline",
                              "--folder", str(tmp_path/"study"), "--json", str(tmp_path/"study.json")]
    assert not end_of(command, capsys)[0]
    first = rows(tmp_path/"study")
    [gone, damaged] = sorted((tmp_path/"study"/"runs").glob("*.npz"))
    gone.unlink()
    assert not end_of(command, capsys)[0]
    pd.testing.assert_frame_equal(rows(tmp_path/"study"), first)
    damaged.write_bytes(damaged.read_bytes()[:100])
    code, said = end_of(["ttl-nb"]*3 + ["report", str(tmp_path/"study")], capsys)
    assert code == 2 and f"{damaged.name}' is damaged or not there" in said and "take that file away, and give the study's command again" in said


# The clock

def test_a_class_after_the_clock_was_set_back(tmp_path, monkeypatch):
    "Seats that nobody sits on any more don't stay taken for an hour."
    from ttl_nb.ui import classroom
    room, now = classroom.Classroom(tmp_path, 2), time.time
    seats = [room.join() for _ in range(2)]
    monkeypatch.setattr(classroom.time, "time", lambda: now() - 3600)
    for s in seats[:1]: os.utime(s.file, (now() - 3600,)*2) # One gives a sign of life
    assert room.taken() == 1 and room.join().number == 3


def test_durations_come_from_a_clock_that_only_goes_forward():
    "`time.time` may be asked when something happened, never how long it took."
    found = [f"{f.name}:{i}" for f in Path(store_room.__file__).parents[1].rglob("*.py") for i, line in enumerate(f.read_text().splitlines(), 1)
             if "time.time()" in line and "st_mtime" not in line]
    assert not found, found
