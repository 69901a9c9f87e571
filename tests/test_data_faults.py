"Bad tables and bad images: each one clear sentence that names the culprit."
import multiprocessing, os, re, subprocess, sys, time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ttl_nb.atomic import atomic_file
from ttl_nb.data import pixels
from ttl_nb.data.catalog import from_csv, from_folder
from ttl_nb.data.domain import Domain
from ttl_nb.errors import InputError
from ttl_nb.data.pixels import UnreadableImages, load_pixels, read_image
from ttl_nb.data.subset import draw_subset


@pytest.fixture
def table(tmp_path):
    "A good table of 20 images, 10 patients and two classes, beside its images."
    rng = np.random.default_rng(0)
    for i in range(20): Image.fromarray(rng.integers(0, 256, (24, 32), np.uint8)).save(tmp_path/f"{i}.png")
    return pd.DataFrame({"file": [f"{i}.png" for i in range(20)], "label": ["a", "b"]*10,
                         "patient_id": [f"0{i//2}" for i in range(20)], "split": ["train"]*12 + ["test"]*8})


def _read(table, folder, **kwargs):
    table.to_csv(folder/"labels.csv", index=False)
    return from_csv(folder/"labels.csv", **kwargs)


FAULTS = {
    "empty table": (lambda t: t[:0], "table of domain .* is empty"),
    "no label column": (lambda t: t.drop(columns="label"),
        "no column 'label': it has file, patient_id, split; name the right one with `label`"),
    "no patient column": (lambda t: t.drop(columns="patient_id"),
        "no column 'patient_id'.*`patient`, or patient=\"none\""),
    "no file column": (lambda t: t.drop(columns="file"), "no column 'file'.*`file_col`"),
    "missing files": (lambda t: t.assign(file=["x1.png", "x2.png", *t.file[2:]]),
        r"2 of 20 files are missing \(x1.png, x2.png\) in image folder /"),
    "duplicate rows": (lambda t: pd.concat([t, t[3:5]]),
        r"duplicate rows: 3.png, 4.png listed more than once \(rows 4, 5, 21 and 1 more\)"),
    "two labels": (lambda t: pd.concat([t, t[3:4].assign(label="a")]),
        r"3.png is listed with two labels \(rows 4, 21\)"),
    "same file spelt in two ways": (lambda t: pd.concat([t, t[3:4].assign(file="./3.png")]), "duplicate rows: 3.png"),
    "patient in two splits": (lambda t: t.assign(split=["train"]*11 + ["test"]*9),
        r"patient '05' is in test and train \(1 such patient"),
    "one class": (lambda t: t.assign(label="a"), "one class only: all 20 images are 'a'"),
    "blank label": (lambda t: t.assign(label=["a", " ", *t.label[2:]]), r"1 blank cell\(s\) in column `label` \(row 2"),
    "blank patient": (lambda t: t.assign(patient_id=["", *t.patient_id[1:]]),
        r"blank cell\(s\) in column `patient` \(row 1"),
    "bad split": (lambda t: t.assign(split=["holdout", *t.split[1:]]), "unknown split 'holdout' in row 1"),
    "split missing in a row": (lambda t: t.assign(split=["", *t.split[1:]]), "unknown split '' in row 1"),
    "file outside": (lambda t: t.assign(file=["../x.png", "/etc/passwd", *t.file[2:]]),
        r"2 file name\(s\) lead out of the image folder .* \(../x.png, /etc/passwd\)"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_table_is_refused_in_one_sentence(table, tmp_path, fault):
    spoil, message = FAULTS[fault]
    with pytest.raises(InputError, match=message) as e: _read(spoil(table), tmp_path)
    assert "\n" not in str(e.value) and len(str(e.value)) < 600 and str(e.value).endswith(".")


def test_the_good_table_is_read(table, tmp_path):
    d = _read(table, tmp_path)
    assert (len(d), d.classes, d.patients[0], d.has_test_set) == (20, ("a", "b"), "00", True)


def test_unknown_label_and_missing_things(table, tmp_path):
    with pytest.raises(InputError, match="unknown label 'b' in rows 2, 4, 6 and 7 more: the classes are a, c"):
        _read(table, tmp_path, classes=("a", "c"))
    with pytest.raises(InputError, match="no column 'part'"): _read(table, tmp_path, split="part")
    with pytest.raises(InputError, match="there is no image folder"): _read(table, tmp_path, image_dir=tmp_path/"none")
    with pytest.raises(InputError, match="there is no table"): from_csv(tmp_path/"none.csv")
    (tmp_path/"zero.csv").write_bytes(b"")
    with pytest.raises(InputError, match="zero.csv is empty"): from_csv(tmp_path/"zero.csv")
    table.to_csv(tmp_path/"semi.csv", index=False, sep=";")
    with pytest.raises(InputError, match="separated by semicolons"): from_csv(tmp_path/"semi.csv")
    Image.new("L", (3, 3)).save(tmp_path/"table.png")
    with pytest.raises(InputError, match="can't be read as a csv table"): from_csv(tmp_path/"table.png")
    with pytest.raises(InputError, match="there is no table"): from_csv(tmp_path)


def test_more_images_than_there_are(table, tmp_path):
    message = "50 images were asked .* 12 training images are a 6, b 6: the largest balanced training set is 12"
    with pytest.raises(InputError, match=message):
        draw_subset(_read(table, tmp_path), 50, 0)


def test_a_file_that_vanishes_after_the_table_was_read_is_named(table, tmp_path):
    d = _read(table, tmp_path)
    (tmp_path/"7.png").unlink()
    with pytest.raises(InputError, match="7.png can't be read"): d.hash


def test_no_pixel_is_decoded_for_a_domain(table, tmp_path):
    "Files that are no images make a domain, its hash and its subsets all the same."
    for f in tmp_path.glob("*.png"): f.write_text(f"not a picture {f.name}")
    d = _read(table, tmp_path)
    assert len(d.hash) == 16 and len(draw_subset(d, 6, 0)) == 6


@pytest.fixture
def spoilt(table, tmp_path):
    (tmp_path/"2.png").write_text("Dear colleague")
    (tmp_path/"5.png").write_bytes(b"")
    (tmp_path/"6.png").write_bytes((tmp_path/"6.png").read_bytes()[:200])
    return _read(table, tmp_path)


def test_unreadable_images_are_listed_and_can_be_left_out(spoilt, tmp_path):
    cache = tmp_path/"cache"
    with pytest.raises(UnreadableImages) as e: load_pixels(spoilt, 16, cache=cache)
    assert [os.path.basename(f) for f in e.value.files] == ["2.png", "5.png", "6.png"]
    assert re.search(r"3 of 20 images can't be read: .*2.png \(it is not an image.*5.png \(the file is empty.*"
                     r"6.png \(it can't be decoded", str(e.value))
    assert "--skip-unreadable" in str(e.value) and not list(cache.iterdir())
    rest = spoilt.drop(e.value.files)
    assert load_pixels(rest, 16, cache=cache).shape == (17, 16, 16)


def _bomb(file): # a header of 65,000 x 65,000 pixels and no pixels
    import struct, zlib
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 65000, 65000, 8, 0, 0, 0, 0))
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


@pytest.mark.parametrize("make, reason", [
    (_bomb, "pixels"),
    (lambda f: f.write_bytes(b"\xff\xd8\xff\xe0" + bytes(100)), "not an image|can't be decoded"),
    (lambda f: f.write_bytes(b"GIF89a" + bytes(3)), "not an image|can't be decoded"),
    (lambda f: f.write_bytes(bytes(128) + b"DICM" + bytes(50)), "DICOM"),
])
def test_hostile_files_get_a_reason(tmp_path, make, reason):
    make(tmp_path/"x.png")
    with pytest.raises(InputError, match=f"x.png can't be read: .*({reason})"): read_image(tmp_path/"x.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_pillow_never_sees_the_pixels_of_a_bomb(tmp_path, monkeypatch):
    Image.new("1", (10_000, 9_000)).save(tmp_path/"bomb.png")
    monkeypatch.setattr(pixels, "_grey", lambda img: pytest.fail("the bomb was decoded"))
    with pytest.raises(InputError, match="10000 x 9000 pixels"): read_image(tmp_path/"bomb.png")


def _build(args): return load_pixels(*args).sum(dtype=np.int64)


def test_two_processes_build_the_same_map_at_once(table, tmp_path):
    files = [str(tmp_path/f) for f in table.file]*20
    cache = tmp_path/"cache"
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        sums = pool.map(_build, [(files, 48, str(cache))]*4, chunksize=1)
    assert len(set(sums)) == 1 and sums[0] == load_pixels(files, 48, cache=tmp_path/"alone").sum(dtype=np.int64)
    assert [f.suffix for f in cache.iterdir()] == [".npy"]


def test_a_map_that_another_process_finishes_meanwhile_does_no_harm(table, tmp_path, monkeypatch):
    "The second builder starts and ends while the first is decoding."
    files, cache = [str(tmp_path/f) for f in table.file], tmp_path/"cache"
    decode, inner = pixels._decode_into, []
    def slow(out, *args):
        monkeypatch.setattr(pixels, "_decode_into", decode)
        inner.append(load_pixels(files, 16, cache=cache))
        return decode(out, *args)
    monkeypatch.setattr(pixels, "_decode_into", slow)
    outer = load_pixels(files, 16, cache=cache)
    assert (outer == inner[0]).all() and outer.any() and len(list(cache.iterdir())) == 1


def test_a_map_is_never_seen_half_written(table, tmp_path, monkeypatch):
    "While it is decoded, the finished name is not there; when decoding is broken off, nothing is left."
    files, cache = [str(tmp_path/f) for f in table.file], tmp_path/"cache"
    seen = []
    def broken(out, *args):
        seen.extend(f.suffix for f in cache.iterdir())
        raise KeyboardInterrupt
    monkeypatch.setattr(pixels, "_decode_into", broken)
    with pytest.raises(KeyboardInterrupt): load_pixels(files, 16, cache=cache)
    assert seen == [".part"] and not list(cache.iterdir())


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50], lambda b: b"", lambda b: b"\0"*len(b)])
def test_a_damaged_map_is_made_again(table, tmp_path, damage):
    files, cache = [str(tmp_path/f) for f in table.file], tmp_path/"cache"
    want = np.array(load_pixels(files, 16, cache=cache))
    [file] = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert (load_pixels(files, 16, cache=cache) == want).all()


def test_a_map_in_use_survives_being_made_again(table, tmp_path):
    files, cache = [str(tmp_path/f) for f in table.file], tmp_path/"cache"
    x = load_pixels(files, 16, cache=cache)
    want = np.array(x)
    next(cache.iterdir()).unlink()
    load_pixels(files, 16, cache=cache)
    assert (x == want).all()


def test_parts_of_the_dead_are_swept_up_and_those_of_the_living_left(table, tmp_path):
    cache = tmp_path/"cache"
    with atomic_file(cache/"map.npy") as living:
        (dead := cache/".map.npy-12345678.part").touch()
        for part in (dead, living): os.utime(part, (time.time() - 60,)*2)
        load_pixels([tmp_path/"0.png"], 16, cache=cache)
        assert not dead.exists() and living.exists()


def test_a_full_disk_is_an_error_and_no_crash(table, tmp_path, monkeypatch):
    def full(*args): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left on device.*TTL_NB_CACHE"):
        load_pixels([tmp_path/"0.png"], 16, cache=tmp_path/"cache")
    assert not list((tmp_path/"cache").iterdir())


def test_a_cache_that_is_a_file_is_named(table, tmp_path):
    with pytest.raises(InputError, match="decoded images can't be kept in .*0.png.*TTL_NB_CACHE"):
        load_pixels([tmp_path/"1.png"], 16, cache=tmp_path/"0.png")


def test_a_finished_map_is_read_from_a_folder_that_cannot_be_written(table, tmp_path, monkeypatch):
    cache = tmp_path/"cache"
    load_pixels([tmp_path/"0.png"], 16, cache=cache)
    monkeypatch.setattr(pixels, "_build", lambda *a: pytest.fail("built again"))
    assert load_pixels([tmp_path/"0.png"], 16, cache=cache).shape == (1, 16, 16)


def test_threads_do_not_change_the_pixels(table, tmp_path):
    files = [tmp_path/f for f in table.file]*5
    one, four = (load_pixels(files, 24, cache=tmp_path/f"cache{n}", workers=n) for n in (1, 4))
    assert (one == four).all()


def test_this_floor_loads_neither_torch_nor_fastai():
    code = ("import sys, ttl_nb.data.domain, ttl_nb.data.catalog, ttl_nb.data.subset, ttl_nb.data.pixels; "
            "print([m for m in ('torch', 'torchvision', 'fastai') if m in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
