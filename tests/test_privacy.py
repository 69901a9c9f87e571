"""Names, dates and identifiers of DICOM headers stay in the DICOM files: planted ones are looked for in everything that is written or said."""
import io, os, subprocess, sys, zipfile, zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from planted import codings, found_below, found_in

FIELDS = dict(PatientName="Vanterpool^Ottilie", PatientBirthDate="19030917", StudyDate="20040229", SeriesTime="235941.271828", InstitutionName="St. Elsewhere Ward Nine",
              ReferringPhysicianName="Quackenbush^Lemuel", StudyDescription="seen for haemoptysis", PatientComments="is afraid of needles", PatientAddress="12 Nowhere Lane",
              OperatorsName="Fotheringay^Ada", StationName="XRAYBASEMENT7", DeviceSerialNumber="SN-90817263", OtherPatientIDs="OTHER-5566-7788")
UID = "1.2.826.0.1.3680043.8.498.31415926535"


def write_dicom(file, i, who):
    "A small radiograph of a patient, whose header says more than it should."
    rng, ds = np.random.default_rng(i), Dataset()
    x = (rng.normal(1500 + 700*(i % 2), 300, (40, 48)).clip(0, 4095)).astype(np.uint16)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID, ds.file_meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, f"{UID}.{i}"
    ds.file_meta.SourceApplicationEntityTitle = "SENDINGHOST42"
    ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID = "1.2.840.10008.5.1.4.1.1.1", f"{UID}.{i}", f"{UID}.77"
    ds.PatientID, ds.AccessionNumber = f"{who}-{i//2:04}", f"ACCESS-{who[:3]}-{i:04}"
    for k, v in FIELDS.items(): setattr(ds, k, v)
    block = ds.private_block(0x0099, "PLANTED CREATOR", create=True); block.add_new(1, "LO", "a private remark")
    ds.Modality, (ds.Rows, ds.Columns), ds.SamplesPerPixel, ds.PhotometricInterpretation = "CR", x.shape, 1, ("MONOCHROME2", "MONOCHROME1")[i % 3 == 0]
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.PixelData = 16, 12, 11, 0, x.tobytes()
    ds["PixelData"].VR = "OW"
    if i % 4 == 1: ds.compress((RLELossless, JPEG2000Lossless)[i//4 % 2], generate_instance_uid=False)
    ds.save_as(file, enforce_file_format=True)


SECRETS = [*FIELDS.values(), UID, "SENDINGHOST42", "PLANTED CREATOR", "a private remark", "TARGETID-", "SOURCEID-", "TARGETID-0003", "ACCESS-TAR-", "ACCESS-SOU-"]

SCRIPT = '''
import json, logging, sys, warnings
from pathlib import Path
warnings.simplefilter("default"); logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
for talks in ("matplotlib", "PIL", "fontTools"): logging.getLogger(talks).setLevel(logging.INFO)
from ttl_nb.analysis.data_check import examine, plot_findings
from ttl_nb.analysis.reuse import compare
from ttl_nb.cli import app, findings_table, measured_table, console
from ttl_nb.data.catalog import from_dicom
from ttl_nb.data.pixels import load_pixels, read_image
from ttl_nb.errors import InputError
from ttl_nb.study.reuse_report import reuse_report
from ttl_nb.study.study import Study
from ttl_nb.train.fit import fit, pretrain
from ttl_nb.train.recipe import Recipe
from ttl_nb.ui.live_chart import export_html
from ttl_nb.ui.offer import Offer
from ttl_nb.ui.outcome import explored
from ttl_nb.ui.reuse_explorer import write_explorer
data, out, engine = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]; whole = engine == "processes"
if __name__ == "__main__":
    quick = dict(image_size=32, epochs=1, min_steps=4)
    target, source = from_dicom(data/"target", data/"target.csv", key="AccessionNumber", name="target"), from_dicom(data/"source", data/"source.csv", name="source")
    print(target, source, target.items.to_string(), target._repr_html_(), target.counts())
    pretrain(source, seed=1, file=out/"source.safetensors", **quick)
    study = Study(target, [str(out/"source.safetensors"), "none"], n_train=[10], freezing=["head", "full"] if whole else ["head"], seeds=2 if whole else 1, folder=out/"study", **quick)
    results = study.run(engine, workers=2, command="ttl-nb study")
    print(results.summary().to_string()); results.save(); print(study.report(), study.export_html())
    if whole:
        pixels, runs = load_pixels(target, 32), [fit(Recipe("target", source="source", n_train=10, seed=s, **quick), target, {"source": str(out/"source.safetensors")}) for s in (0, 1)]
        result = runs[0].compare(pixels, most=16, floors=dict(other_seed=runs[1].after))
        print(reuse_report(result, out/"reuse.html", about={}), write_explorer([explored(runs[0], pixels)], out/"explorer.html"), export_html(runs[0].recording, out/"chart.html"))
    check = examine(target, None, 32)
    console.print(measured_table(check), findings_table(check)); (out/"check.json").write_text(json.dumps(check.as_dict()))
    if any(f.rows for f in check.findings): plot_findings(check).figure.savefig(out/"sheet.png")
    (out/"offer.json").write_text(json.dumps(Offer({"target": target}, {"source": [str(out/"source.safetensors")]}, 32).to_dict()))
    for bad in sorted((data/"bad").iterdir()):
        for call in (read_image, lambda f: load_pixels([f], 32)):
            try: call(bad)
            except InputError as e: print(e)
    for table in ("two_splits.csv", "twice.csv"):
        try: from_dicom(data/"target", data/table, key="AccessionNumber")
        except InputError as e: print(e)
    app(["dicom", *map(str, sorted((data/"target").iterdir())[:3]), *map(str, sorted((data/"bad").iterdir())), "--picture", str(out/"steps.png")])
'''


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    "Two collections of twenty-four patients, tables for them, and damaged files."
    folder = tmp_path_factory.mktemp("dicom")
    for who in ("target", "source", "bad"): (folder/who).mkdir()
    for who in ("target", "source"):
        for i in range(48): write_dicom(folder/who/f"IM{i:04}", i + 100*(who == "source"), f"{who.upper()}ID")
        split = np.where(np.arange(48)//2 % 5 < 3, "train", "test")
        key = dict(AccessionNumber=[f"ACCESS-TAR-{i:04}" for i in range(48)]) if who == "target" else dict(file=[f"IM{i:04}" for i in range(48)])
        table = pd.DataFrame(dict(**key, label=np.tile(["no", "yes"], 24), split=split))
        table.to_csv(folder/f"{who}.csv", index=False)
        if who == "target":
            table.assign(split=np.tile(["train", "test"], 24)).to_csv(folder/"two_splits.csv", index=False)
            pd.concat([table, table[:2]]).to_csv(folder/"twice.csv", index=False)
    whole, rng = (folder/"target"/"IM0000").read_bytes(), np.random.default_rng(0)
    assert all(s.encode() in whole or s in ("TARGETID-0003", "SOURCEID-", "ACCESS-SOU-") for s in SECRETS), "what is planted is there"
    for i in range(20):
        bad = bytearray(whole[:len(whole) - 90*i])
        for at in rng.integers(132, 1200, 3*i): bad[at] = rng.integers(256)
        (folder/"bad"/f"bad{i}.dcm").write_bytes(bad)
    return folder


@pytest.mark.parametrize("engine", ["inline", pytest.param("processes", marks=pytest.mark.slow)])
def test_nothing_of_a_header_is_written_or_said(engine, data, tmp_path):
    "From the files to a pretraining, a study, its report and explorer, a check, error messages and logs; slow: in processes, and with the pages of reuse and of a replay."
    (script := tmp_path/"run.py").write_text(SCRIPT); (out := tmp_path/"out").mkdir(); (tmp_path/"temporary").mkdir()
    env = dict(os.environ, TTL_NB_CACHE=str(tmp_path/"cache"), TMPDIR=str(tmp_path/"temporary"), OMP_NUM_THREADS="1", COLUMNS="250")
    r = subprocess.run([sys.executable, str(script), str(data), str(out), engine], capture_output=True, env=env, cwd=out, timeout=600)
    said = r.stdout + r.stderr
    assert b"bad0.dcm" not in r.stderr[-300:] and b"inverted" in r.stdout and r.returncode == 2, said[-3000:].decode() # 2: some of the files can't be read
    pages = ("reuse.html", "explorer.html", "chart.html") if engine == "processes" else ()
    for file in ("source.safetensors", "study/study.sqlite", "study/cases.parquet", "study/report.html", "study/explorer.html", "check.json", "steps.png", *pages):
        assert (out/file).is_file(), f"{file} was not made, and so not looked at"
    (tmp_path/"said.txt").write_bytes(said); script.unlink()
    found, read = found_below(tmp_path, SECRETS)
    print(f"{read/1e6:.0f} MB read, unpacked; {len(found)} secrets found")
    assert read > 1e6 and len(list((tmp_path/"cache").iterdir())) >= 2
    assert not found, found[:10]


# The search itself

def test_the_search_finds_what_is_there(tmp_path):
    "In plain, in other codings, compressed, in tables, in pictures, in file names."
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo
    secret = "Vanterpool^Ottilie"
    np.savez_compressed(tmp_path/"a.npz", x=np.array([secret]), y=np.zeros(5))
    np.savez(tmp_path/"zlib.npz", y=np.frombuffer(zlib.compress(b"x"*40 + secret.encode()), np.uint8))
    pd.DataFrame(dict(p=[secret]*50)).to_parquet(tmp_path/"a.parquet")
    info = PngInfo(); info.add_text("by", secret, zip=True); Image.new("L", (8, 8)).save(tmp_path/"a.png", pnginfo=info)
    import base64
    (tmp_path/"a.html").write_text(f'<img src="data:image/png;base64,{base64.b64encode((tmp_path/"a.png").read_bytes()).decode()}">')
    for name, code in codings(secret).items(): (tmp_path/f"{name}.bin").write_bytes(b"--" + code + b"--")
    (tmp_path/f"{secret}.txt").touch()
    n = len(list(tmp_path.iterdir()))
    assert len({f for f, *_ in found_below(tmp_path, [secret])[0]}) == n
    assert not found_in(b"nothing is here", [secret])
