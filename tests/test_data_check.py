"""What is wrong with a data set is found before training: in the real sets what their README says, in a copy of a
phantom each fault that is put in, in clean phantoms nothing."""
import io, json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_light_imports import HEAVY, loaded

from ttl_nb.analysis.data_check import check_domain, examine, open_table, shortcuts, two_splits
from ttl_nb.cli import app
from ttl_nb.data.phantom import KINDS, phantom
from ttl_nb.data.pixels import load_pixels
from ttl_nb.errors import InputError

SIZE = 64
IMAGES = {"phantom-natural": 700, "phantom-limb": 300, "phantom-chest": 300}
SMALL = {"classes with few patients"} # What small sets of many classes are rightly told


def opened(table, image_size=SIZE):
    "What is found in a table."
    domain, patients, columns = open_table(table)
    return examine(domain, None, image_size, columns, patients)


def found(check, kind="fault")->dict: return {f.name: f for f in check.findings if f.kind == kind}


# The real sets

def test_chest_nih(real_data):
    check = opened(real_data/"chest_nih"/"labels.csv")
    told = {m.what: m for m in check.measured}
    assert {"mean intensity", "column `view`", "borders"} <= found(check).keys()
    assert abs(told["column `view`"].auc - .63) < .02 and .8 < told["thumbnail"].low
    assert "within one `view` 0.7" in found(check)["mean intensity"].found
    assert {"thumbnail", "column `findings`"} <= found(check, "caution").keys()
    assert not {"column `age`", "column `sex`"} & {*found(check), *found(check, "caution")}


def test_chest_kermany(real_data):
    check = opened(real_data/"chest_kermany"/"labels.csv")
    size, many = found(check)["file size"].found, found(check, "caution")["many images of a patient"].found
    assert "train 0.92; test 0.83" in size
    assert "train: 8, with up to 30" in many and "test: 1, with up to 9" in many
    same, strangers = (found(check, "caution")[k] for k in ("repeated images", "copies across patients"))
    assert (len(same.rows), len(strangers.rows)) == (18, 2)
    assert "thumbnail" in found(check, "caution") and "copies across splits" not in found(check)


def test_knees_have_inverted_images(real_data):
    check = opened(real_data/"knee_oai"/"labels.csv")
    assert found(check).keys() == {"wrong polarity"} and len(found(check)["wrong polarity"].rows) == 40
    assert found(check, "caution").keys() == {"column `grade`"}


# Clean phantoms

@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", KINDS)
def test_clean_phantoms_are_quiet(name, seed):
    check = examine(phantom(name, IMAGES.get(name, 400), seed, SIZE))
    assert {f.name for f in check.findings} <= (SMALL if KINDS[name].target is None else set()), check.findings
    assert len(check.measured) == 4 # Nothing is quiet for want of patients


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_clean_phantoms_are_quiet_at_full_size(name): assert not check_domain(phantom(name, size=SIZE))


# Each fault, put into a copy of a phantom

class Copy:
    "A phantom as picture files with a table, to be spoilt."
    def __init__(self, folder, domain):
        self.folder, self.rng = folder, np.random.default_rng(0)
        self.x = np.array(load_pixels(domain, SIZE))
        self.y, n = domain.labels, len(domain)
        self.table = pd.DataFrame(dict(file=[f"{i}.png" for i in range(n)], label=domain.items["label"], patient_id=domain.patients, split=domain.items["split"],
                                       view=self.rng.choice(["PA", "AP"], n), age=self.rng.integers(20, 90, n).astype(str), visit_id=[str(i) for i in range(n)]))
        self.save = {}
        self.train, self.test = (np.flatnonzero(domain.items["split"] == s) for s in ("train", "test"))

    def write(self):
        for i,p in enumerate(self.x): self.save.get(i, lambda p, f: Image.fromarray(p).save(f))(p, self.folder/f"{i}.png")
        self.table.to_csv(self.folder/"labels.csv", index=False)
        return self.folder/"labels.csv"


@pytest.fixture(scope="module")
def domain(): return phantom("phantom-pneumonia", 600, 3, SIZE)


@pytest.fixture
def copy(tmp_path, domain): return Copy(tmp_path, domain)


def test_a_clean_copy_is_quiet(copy): assert not opened(copy.write()).findings


def jpeg(p, quality=50):
    file = io.BytesIO(); Image.fromarray(p).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def two_patients(c): c.table.loc[c.test[0], "patient_id"] = c.table["patient_id"][c.train[0]]
def copied(c): c.x[c.test[0]] = c.x[c.train[0]]
def resaved(c): c.x[c.test[0]] = jpeg(c.x[c.train[0]])
def brightened(c): c.x[c.test[0]] = c.x[c.train[0]]//2 + 60
def mirrored(c): c.x[c.test[0]] = c.x[c.train[0]][:,::-1]
def negative(c): c.x[c.test[0]] = 255 - c.x[c.train[0]]
def relabelled(c):
    i, j = c.train[0], next(j for j in c.train if c.y[j] != c.y[c.train[0]])
    c.x[j] = c.x[i]
def blank(c): c.x[c.train[5]] = 128
def inverted(c): c.x[c.train[5]] = 255 - c.x[c.train[5]]
def one_class_inverted(c): c.x[c.y == 1] = 255 - c.x[c.y == 1]
def framed(c): c.x[c.y == 1,:5] = 0
def marked(c):
    for i in np.flatnonzero(c.rng.random(len(c.y)) < np.where(c.y, .9, .2)): c.x[i, 5:10, 4:7] = 255
def darker(c): c.x[c.y == 1] = c.x[c.y == 1]*.85
def both_ways(c):
    for k,i in enumerate(np.flatnonzero(c.y)): c.x[i] = c.x[i]*.8 if k % 2 else 255 - (255 - c.x[i])*.8
def uncompressed(c): c.save = {i: lambda p, f: Image.fromarray(p).save(f, compress_level=1) for i in np.flatnonzero(c.y)}
def coloured(c): c.save = {i: lambda p, f: Image.fromarray(p).convert("RGB").save(f) for i in np.flatnonzero(c.y)}
def viewed(c): c.table["view"] = np.where(c.rng.random(len(c.y)) < np.where(c.y, .7, .3), "AP", "PA")
def scanned(c): c.table["PatientPosition"] = np.where(c.y, "lying", "standing")
def undocumented(c): c.table.loc[(c.y == 0) & (c.rng.random(len(c.y)) < .4), "age"] = ""
def cut_off(c): c.save = {int(c.train[7]): lambda p, f: f.write_bytes(b"\x89PNG\r\n\x1a\n")}


FAULTS = {"patients in two splits": [two_patients], "copies across splits": [copied, resaved, brightened, mirrored, negative],
          "contradicting labels": [relabelled], "constant images": [blank], "wrong polarity": [inverted, one_class_inverted], "borders": [framed],
          "corner markers": [marked], "mean intensity": [darker, both_ways], "file size": [uncompressed], "image shape": [coloured], "column `view`": [viewed],
          "column `PatientPosition`": [scanned], "column `age`": [undocumented], "unreadable images": [cut_off]}


@pytest.mark.parametrize("name,spoil", [(k, f) for k,fs in FAULTS.items() for f in fs], ids=lambda v: getattr(v, "__name__", ""))
def test_a_fault_is_found(name, spoil, copy):
    spoil(copy)
    assert name in found(check := opened(copy.write())), check.findings
    assert name != "wrong polarity" or spoil is not inverted or found(check)[name].rows == (copy.train[5],)
    assert name != "copies across splits" or set(found(check)[name].rows) == {copy.test[0], copy.train[0]}


def strangers(c):
    i, j = c.train[0], next(j for j in c.train[::-1] if c.y[j] == c.y[c.train[0]] and c.table["patient_id"][j] != c.table["patient_id"][c.train[0]])
    c.x[j] = c.x[i]
def crowded(c): c.table.loc[c.train[:12], "patient_id"] = "crowd"
def restated(c): c.table["stage"] = np.where(c.y == 1, "2", "0")
def large_signs(c):
    "As much brighter above as it is darker below: the mean stays."
    for i in np.flatnonzero(c.y): c.x[i, 16:48] = np.clip(c.x[i, 16:48].astype(int) + np.repeat([30, -30], 16)[:,None], 0, 255)


CAUTIONS = {"copies across patients": strangers, "many images of a patient": crowded, "column `stage`": restated, "thumbnail": large_signs}

@pytest.mark.parametrize("name", CAUTIONS)
def test_a_caution_is_no_fault(name, copy):
    CAUTIONS[name](copy)
    check = opened(copy.write())
    assert name in found(check, "caution") and not found(check), check.findings


def test_copies_across_patients_are_a_fault_where_folds_are_made_by_patient(copy):
    strangers(copy)
    copy.table["split"] = ""
    copy.table = copy.table[:300] # From 200 patients on a test set is made
    assert len(set(copy.table["patient_id"])) < 200
    j = next(j for j in range(299, 0, -1) if copy.table["patient_id"][j] != copy.table["patient_id"][0])
    copy.x[j] = copy.x[0]
    assert "copies across patients" in found(opened(copy.write()))


def test_a_test_set_from_elsewhere_is_no_shortcut(copy):
    "Darker images and more ill patients in the test set: brightness follows the split, and no label within it."
    copy.x[copy.test] = copy.x[copy.test]*.5
    well, ill = copy.test[copy.y[copy.test] == 0], copy.train[copy.y[copy.train] == 1]
    copy.table = copy.table.drop(np.r_[np.delete(well, np.s_[::6]), np.delete(ill, np.s_[::6])])
    assert "mean intensity" not in found(opened(copy.write()))


def test_an_inverted_class_whose_polarity_is_mended_is_quiet(copy):
    "The finding names the rows to invert: done, nothing is left."
    one_class_inverted(copy)
    rows = np.array(found(opened(copy.write()))["wrong polarity"].rows)
    assert len({*copy.y[rows]}) == 1
    copy.x[rows] = 255 - copy.x[rows]
    assert not opened(copy.write()).findings or set(copy.y[rows]) == {0}


def test_shuffled_labels_follow_nothing(copy, domain):
    "Eight shuffles by patient: nothing beside the point tells them."
    columns, above = copy.table[["view", "age"]], 0
    who, first = np.unique(domain.patients, return_index=True)
    for seed in range(8):
        of = dict(zip(who, np.random.default_rng(seed).permutation(domain.items["label"].to_numpy()[first])))
        shuffled = type(domain)("shuffled", domain.items.assign(label=[of[p] for p in domain.patients]), domain.classes)
        asked, _ = shortcuts(shuffled, domain.patients, copy.x, columns)
        above += sum(f.auc.low > .55 for f in asked)
    assert above == 0


# The command

def command(capsys, *words):
    "Exit code and output of `ttl-nb check WORDS`."
    with pytest.raises(SystemExit) as end: app(["check", *map(str, words)])
    return end.value.code, capsys.readouterr()


def test_the_command_says_0_for_a_clean_set_and_1_for_faults(copy, capsys, tmp_path):
    table = copy.write()
    code, said = command(capsys, table, "--sheet", tmp_path/"none.png")
    assert code == 0 and "nothing was found" in said.out and "no sheet" in said.out and not (tmp_path/"none.png").exists()
    copied(copy); copy.write()
    code, said = command(capsys, tmp_path, "--json", tmp_path/"found.json", "--sheet", tmp_path/"sheet.png")
    told = json.loads((tmp_path/"found.json").read_text())
    assert code == 1 and "copies across splits" in said.out and Image.open(tmp_path/"sheet.png").width > 300
    [fault] = [f for f in told["findings"] if f["name"] == "copies across splits"]
    assert fault["kind"] == "fault" and set(fault["files"]) == {f"{copy.train[0]}.png", f"{copy.test[0]}.png"}
    assert {m["what"] for m in told["measured"]} >= {"borders", "mean intensity", "thumbnail", "column `view`"}
    assert not any(p in (tmp_path/"found.json").read_text() for p in copy.table["patient_id"]), "a patient's id was written"


def test_the_command_on_bad_input(copy, capsys, tmp_path):
    for words,says in ((["nowhere.csv"], "nowhere.csv"), ([copy.write(), "--patient", "who"], "has no column 'who'"), ([tmp_path, "--image-size", 8], "`image_size`"),
                       ([tmp_path, "--sheet", tmp_path/"x.what"], "cannot be written") if copied(copy) is None and copy.write() else ()):
        code, said = command(capsys, *words)
        assert code == 2 and says in " ".join(said.err.split()) and "Traceback" not in said.err


def test_phantoms_are_known_by_name(capsys):
    code, said = command(capsys, "phantom-nothing")
    assert code == 2 and "must be one of" in said.err


def test_other_faults_of_a_table_stay_errors(copy):
    copy.table.loc[3, "patient_id"] = ""
    with pytest.raises(InputError, match="blank cell"): open_table(copy.write())
    copy.table.loc[3, "patient_id"] = "p"; copy.table.loc[4, "split"] = "learn"
    with pytest.raises(InputError, match="'learn'"): open_table(copy.write())


def test_rows_must_fit(domain):
    with pytest.raises(InputError, match="a row for each"): examine(domain, np.zeros((3, SIZE, SIZE), np.uint8))
    assert two_splits(domain, domain.patients) == []


def test_no_torch(): assert not set(HEAVY) & loaded("import ttl_nb.analysis.data_check")
