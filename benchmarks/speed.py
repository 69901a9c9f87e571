"""How quick is ttl_nb beside fastai, on the same files? `python benchmarks/speed.py [--json FILE] [--only NAME] [--quick]`

Both sides start from files on disk, with the same network (resnet18 at 64 pixels, one channel), the same weights, batches
and threads: those at which the peer is quickest (1 or 2 threads, with or without worker processes). Real radiographs are
read from TTL_NB_REAL_DATA or ../shared/data; without them, pictures are drawn."""
import io, os, subprocess, sys
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from unittest.mock import patch

from runner import Bound, Line, Outcome, in_turns, main, seconds_of, temporary_folder

SIDE = 64 # Pixels a side


# Files that both sides read

@dataclass(frozen=True)
class Images:
    "A table of image files, and where they lie."
    table:Path # csv with file, label, patient_id, split
    folder:Path # That file names start from

    def domain(self):
        "A new Domain; nothing is remembered of the files."
        from ttl_nb.data import domain
        from ttl_nb.data.catalog import from_csv
        domain._digests.clear()
        return from_csv(self.table, self.folder, name="target")

    def items(self, rows=None): # Rows of the table; all if `None`
        "The same as fastai users have it."
        import pandas as pd
        t = pd.read_csv(self.table)
        t = t.assign(file=[str(self.folder/f) for f in t["file"]], is_valid=t["split"] == "test")
        return t if rows is None else t.iloc[rows]


def real_folder():
    "Folder of the real radiographs, or None."
    found = Path(os.environ.get("TTL_NB_REAL_DATA") or Path(__file__).parents[1]/"../shared/data").resolve()/"chest_kermany"
    return found if (found/"labels.csv").is_file() else None


def draw_files(folder, n): # Where to, and how many
    "Write pictures of 128 pixels a side, half of them with a brighter patch; returns their table."
    import numpy as np, pandas as pd
    from PIL import Image
    g, found = np.random.default_rng(0), []
    y, x = np.mgrid[:128, :128]/128
    for i in range(n):
        spot = 35*(i % 2)*np.exp(-30*((x - g.uniform(.3, .7))**2 + (y - .5)**2))
        picture = 90 + 60*np.cos(4*x + g.normal(0, .3)) + g.normal(0, 12, (128, 128)) + spot
        Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(folder/f"{i}.jpg", quality=90)
        found.append((f"{i}.jpg", "AB"[i % 2], i))
    return pd.DataFrame(found, columns=["file", "label", "patient_id"])


def images(folder, n_train, n_test): # Where the table goes, and how many images
    "So many training and test images, as many of each class."
    import pandas as pd
    if real := real_folder(): table, where = pd.read_csv(real/"labels.csv"), real
    else:
        table, where = draw_files(folder, n_train + n_test), folder
        table["split"] = ["train"]*n_train + ["test"]*n_test
    parts = [table[table["split"] == s].groupby("label").sample(n//2, random_state=0) for s, n in (("train", n_train), ("test", n_test))]
    pd.concat(parts).to_csv(folder/"table.csv", index=False)
    return Images(folder/"table.csv", where)


# Ours

@cache
def source(seed=0, backbone="resnet18"):
    "A network with drawn weights and estimated BatchNorm statistics, as a source: both sides start from it."
    import numpy as np
    from ttl_nb.models.checkpoint import Checkpoint
    from ttl_nb.train.fit import start_network
    from ttl_nb.train.recipe import Recipe, canonical
    recipe = canonical(Recipe("target", backbone=backbone, seed=seed, image_size=SIDE))
    y, x = np.mgrid[:SIDE, :SIDE]
    waves = np.stack([127 + 100*np.sin(x/(3 + i % 7) + i)*np.cos(y/(4 + i % 5)) for i in range(64)]).astype(np.uint8)
    net = start_network(recipe, 2, None, waves)
    return Checkpoint({k: v.detach().clone() for k, v in net.state_dict().items()}, backbone, ("A", "B"), SIDE, domain=f"source{seed}")


def recipe(freezing, n_train, epochs, **fields):
    "A recipe that trains as the peer does: no augmentation, exactly so many epochs."
    from ttl_nb.train.recipe import Recipe
    says = dict(target="target", source="source", backbone="resnet18", image_size=SIDE, n_train=n_train, freezing=freezing, head_solver="sgd",
                augment="none", epochs=epochs, min_steps=0, batch_size=16)
    return Recipe(**(says | fields))


@contextmanager
def our_threads(n): # Intra-op threads
    "Let our runs have more than the one thread that they take by themselves."
    import torch
    from peer import torch_threads
    with torch_threads(n), patch.object(torch, "set_num_threads", lambda _: None): yield


@contextmanager
def fresh_cache():
    "Nothing decoded or computed is left from before."
    with temporary_folder() as folder, patch.dict(os.environ, TTL_NB_CACHE=str(folder/"cache")): yield folder


def run(files, says, threads=1, **options): # Images, a recipe, and options of `fit`
    "From files on disk to a finished run with its test AUC."
    from ttl_nb.train.fit import fit
    with fresh_cache(), our_threads(threads):
        found = fit(says, files.domain(), {"source": source()}, **options)
        found.auc
    return found


# Training

def train_line(freezing, n_train, n_test, epochs, turns, quick, splitter=None, cbs=()):
    "Time a freezing plan beside the same in fastai."
    import peer
    from ttl_nb.models.checkpoint import state_hash
    with temporary_folder() as folder:
        files, says = images(folder, n_train, n_test), recipe(freezing, n_train, epochs)
        def learner(workers):
            learn = peer.learner(peer.loaders(files.items(), SIDE, workers), source(), splitter)
            learn.unfreeze() if freezing == "full" else learn.freeze()
            return learn
        def trial(workers):
            learn = learner(workers)
            return lambda: peer.train(learn, 1)
        threads, workers = peer.quickest("open" if freezing == "full" else "frozen", trial, quick)
        def theirs():
            with peer.torch_threads(threads): return peer.train(learner(workers), epochs, cbs=[cb() for cb in cbs])
        mine, other, found, auc = in_turns(lambda: run(files, says, threads), theirs, turns)
        plain = run(files, says, threads, keep=None)
        same = all(state_hash(r.after.state_dict()) == r.facts["trained"] == plain.facts["trained"] for r in (found, plain)) and found.auc == plain.auc
    said = f"weights and test AUC are those of the same Learner without cache, to the bit: {yes(same)}; AUC {found.auc:.3f}, fastai's {auc:.3f}"
    return Outcome(mine, other, same, said, threads=ways(threads, workers))


def yes(same): return "yes" if same else "no"

def ways(threads, workers): return f"both {threads} thread{'s'*(threads > 1)}, the peer {f'{workers} workers' if workers else 'no workers'}"


def probe(quick): return train_line("head", *((64, 32, 2, 1) if quick else (400, 200, 20, 3)), quick)
def full(quick): return train_line("full", *((64, 32, 1, 1) if quick else (400, 200, 3, 3)), quick)

def gradual(quick):
    import peer
    from ttl_nb.train import freezing
    every, one_a_time = 1 if quick else 2, freezing._one_a_time
    with patch.object(freezing, "_one_a_time", lambda epochs: one_a_time(epochs//every)): # `gradual:epoch`, but slower
        return train_line("gradual:epoch", *((64, 32, 4, 1) if quick else (400, 200, 8, 2)), quick, peer.a_group_a_stage, [lambda: peer.OpenInTurn(every)])


def lr_finder(quick):
    import peer
    from ttl_nb.train.fit import lr_curve
    n_train, steps, turns = (64, 20, 1) if quick else (400, 100, 3)
    with temporary_folder() as folder:
        files, says = images(folder, n_train, 40), recipe("head", n_train, 1)
        def learner(workers):
            learn = peer.learner(peer.loaders(files.items(), SIDE, workers), source())
            learn.freeze()
            return learn
        def find(learn):
            with learn.no_bar(), learn.no_logging(): learn.lr_find(num_it=steps, show_plot=False)
            return len(learn.recorder.losses)
        def trial(workers):
            learn = learner(workers)
            return lambda: peer.train(learn, 1)
        threads, workers = peer.quickest("frozen", trial, quick)
        def theirs():
            with peer.torch_threads(threads): return find(learner(workers))
        def ours(**options):
            with fresh_cache(), our_threads(threads): return lr_curve(says, files.domain(), {"source": source()}, steps=steps, **options)
        mine, other, curve, done = in_turns(ours, theirs, turns)
        same = ours(keep=None).losses == curve.losses
    said = f"{len(curve.losses)} losses are those of the same Learner without cache, to the bit: {yes(same)}; fastai took {done} steps"
    return Outcome(mine, other, same, said, threads=ways(threads, workers))


def probes_240(quick):
    import peer
    from ttl_nb.data.subset import draw_subset
    from ttl_nb.study.store import Store
    from ttl_nb.study.study import Study
    from ttl_nb.train.fit import fit
    sizes, seeds, sources, epochs = ((16, 32), 2, 2, 2) if quick else ((25, 50, 100, 150, 200, 300), 10, 4, 20)
    with temporary_folder() as folder:
        files, checkpoints = images(folder, max(sizes) + 100, 32 if quick else 100), {f"source{i}": source(i) for i in range(sources)}
        def ours():
            with fresh_cache() as cache:
                study = Study(files.domain(), checkpoints, sizes, ["head"], seeds, folder=cache/"study", backbone="resnet18", image_size=SIDE)
                study.run(engine="inline")
                return study, Store(study.folder).table().set_index("recipe_id")
        seconds, (study, table) = seconds_of(ours)
        timed = [next(r for seed, r in study.grid if (seed, r.source, r.n_train) == (i % seeds, f"source{i % sources}", n)) for i, n in enumerate(sizes)]
        target = files.domain()
        def learner(r, workers):
            items = files.items()
            rows = [*draw_subset(target, r.n_train, r.subset_seed, r.balance, target.splits(0)[0].train), *target.splits(0)[0].test]
            learn = peer.learner(peer.loaders(items.iloc[rows], SIDE, workers), checkpoints[r.source])
            learn.freeze()
            return learn
        def trial(workers):
            learn = learner(timed[-1], workers)
            return lambda: peer.train(learn, 1)
        threads, workers = peer.quickest("frozen", trial, quick)
        def theirs():
            with peer.torch_threads(threads): return [peer.train(learner(r, workers), epochs) for r in timed]
        other, _ = seconds_of(theirs)
        def alone(r):
            with fresh_cache(): return fit(r, target, checkpoints).auc
        same = all(table.auc[r.id] == alone(r) for r in timed)
    said = f"{len(timed)} of {len(table)} test AUCs equal to the bit those of single runs: {yes(same)}"
    return Outcome([seconds], [other], same, said, share=len(timed)/len(study), threads=ways(threads, workers))


# DICOM files

def write_dicom(file, picture, syntax, side, bits, seed): # `picture`: (128,128) float32 in [0,1]
    "Write a radiograph of `side` pixels."
    import numpy as np
    from PIL import Image
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, JPEGBaseline8Bit
    x = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC))
    x = x*(2**bits - 1) + np.random.default_rng(seed).normal(0, 2**(bits - 8), x.shape)
    x = np.rint(x.clip(0, 2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = DigitalXRayImageStorageForPresentation, f"1.2.826.0.1.{seed + 1}", "DX"
    ds.Rows = ds.Columns = side
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation, ds.SamplesPerPixel = 8*x.itemsize, bits, bits - 1, 0, 1
    ds.PhotometricInterpretation, ds.PixelData = "MONOCHROME2", x.tobytes()
    if syntax == JPEGBaseline8Bit:
        stream = io.BytesIO()
        Image.fromarray(x).save(stream, "JPEG", quality=92)
        ds.PixelData, ds.file_meta.TransferSyntaxUID = encapsulate([stream.getvalue()]), syntax
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    elif syntax != ExplicitVRLittleEndian: ds.compress(syntax, generate_instance_uid=False)
    ds.save_as(file, enforce_file_format=True)


def pictures(folder, n): # Of (128,128) float32 in [0,1]
    "The first images of the training set."
    import numpy as np
    from PIL import Image
    return [np.asarray(Image.open(f).convert("L"), np.float32)/255 for f in images(folder, n + n % 2, 2).items()["file"][:n]]


def dicom_epoch(quick):
    import numpy as np, pandas as pd, torch
    import peer
    from fastai.medical.imaging import PILDicom
    from pydicom.uid import ExplicitVRLittleEndian
    from ttl_nb.data.pixels import load_pixels
    from ttl_nb.train.batches import PixelDataset, PixelLoader
    n, side, turns = (32, 128, 2) if quick else (200, 512, 5)
    with temporary_folder() as folder:
        files = [folder/f"{i}.dcm" for i in range(n)]
        for i, (f, picture) in enumerate(zip(files, pictures(folder, n))): write_dicom(f, picture, ExplicitVRLittleEndian, side, 8, i)
        items = pd.DataFrame(dict(file=[str(f) for f in files], label=["A", "B"]*(n//2), is_valid=[False]*(n - 2) + [True]*2))
        load_pixels(files, SIDE, folder/"cache")
        def epoch(batches): return torch.cat([b[0] for b in batches])
        def ours():
            pixels = load_pixels(files, SIDE, folder/"cache")
            return epoch(PixelLoader(PixelDataset(pixels[:n-2], np.zeros(n - 2, int)), peer.BATCH))
        def theirs(workers):
            train = peer.loaders(items, SIDE, workers, PILDicom).train
            dl = train.new(shuffle=False, drop_last=False)
            epoch(dl)
            return lambda: epoch(dl)
        threads, workers = peer.quickest("dicom", theirs, quick)
        with peer.torch_threads(threads): mine, other, x, y = in_turns(ours, theirs(workers), turns, warm_up=True)
        off = float((x*255 - (y.as_subclass(torch.Tensor)*.25 + .5)*255).abs().max())
    said = f"pixels of {n - 2} images equal to within {off:.2f} of 255 grey levels (1 is allowed: fastai resizes in whole levels)"
    return Outcome(mine, other, off <= 1.001, said, threads=ways(threads, workers))


def dicom_decode(quick):
    import numpy as np
    from PIL import Image
    from pydicom import dcmread
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLSLossless, RLELossless
    from ttl_nb.data.pixels import load_pixels
    n, distinct, side, turns = (132, 12, 128, 1) if quick else (500, 20, 1024, 3)
    kinds = [(JPEG2000Lossless, 12), (JPEGLSLossless, 12), (RLELossless, 12), (JPEGBaseline8Bit, 8)]
    with temporary_folder() as folder:
        for i, picture in enumerate(pictures(folder, distinct)): write_dicom(folder/f"{i}.dcm", picture, kinds[i % 4][0], side, kinds[i % 4][1], i)
        files = [folder/f"copy{i}.dcm" for i in range(n)]
        for i, f in enumerate(files): # the preamble is free: the same image, another file
            f.write_bytes(i.to_bytes(128, "big") + (folder/f"{i % distinct}.dcm").read_bytes()[128:])
        def ours():
            with temporary_folder() as cache: return np.array(load_pixels(files, SIDE, cache, workers=2))
        def theirs(files=files, plugins={}): # Transfer syntax -> plugin, where it is not pydicom's first
            for f in files:
                ds = dcmread(f)
                ds.pixel_array_options(decoding_plugin=plugins.get(ds.file_meta.TransferSyntaxUID, ""))
                last = ds.pixel_array
            return last
        mine, other, x, _ = in_turns(ours, theirs, turns)
        safely, _ = seconds_of(lambda: theirs(files[::5], {JPEG2000Lossless: "pylibjpeg"})) # gdcm, pydicom's first, has threads of its own; it aborts the process on some damaged streams
        def expected(i):
            found = dcmread(files[i]).pixel_array/np.float32(2**kinds[i % distinct % 4][1] - 1)
            return np.rint(np.asarray(Image.fromarray(found).resize((SIDE, SIDE), Image.Resampling.BILINEAR)).clip(0, 1)*255)
        off = max(float(np.abs(expected(i) - x[i]).max()) for i in range(distinct))
        same = all((x[i] == x[i % distinct]).all() for i in range(n))
    said = (f"pixels of the loop, resized, equal to {off:g} of 255 grey levels, for each of four compressions; copies alike: {yes(same)}; "
            f"JPEG 2000 is decoded by gdcm in the loop, on both cores; a loop of one thread, by openjpeg as here, takes {5*safely:.3g} s")
    return Outcome(mine, other, same and off == 0, said, threads="ours 2 processes, the peer one with the threads of gdcm")


# Starting, and many runs

def python(*args): # Of a new interpreter
    "Run Python and return what it printed."
    return subprocess.run([sys.executable, *args], capture_output=True, text=True, check=True).stdout


def start(quick):
    command = "from ttl_nb.cli import app; app()"
    mine, other, said, _ = in_turns(lambda: python("-c", command, "--help"), lambda: python("-c", "from fastai.vision.all import *"),
                                    1 if quick else 3, warm_up=not quick)
    loaded = python("-c", f"import sys, atexit\natexit.register(lambda: print(*sorted(sys.modules)))\n{command}", "--help").split()
    heavy = {"torch", "fastai", "pandas", "numpy"} & set(loaded)
    whole = all(name in said for name in ("pretrain", "study", "report", "doctor"))
    outcome = Outcome(mine, other, whole and not heavy, f"the help names all commands; loaded of torch, fastai, pandas, numpy: {', '.join(heavy) or 'none'}")
    return Outcome(**{**vars(outcome), "bounds": (Bound("import_seconds", sorted(mine)[len(mine)//2], "s", .5),)})


def processes(quick):
    from ttl_nb.study.store import Store
    from ttl_nb.study.study import Study
    from ttl_nb.train.fit import fit
    n_train, seeds, fields, turns = (16, 2, dict(epochs=10, min_steps=0), 1) if quick else (100, 3, {}, 2)
    with temporary_folder() as folder:
        files, checkpoints = images(folder, 2*n_train, 40 if quick else 200), {"source": source(0, "resnet10")}
        def study(engine):
            with fresh_cache() as cache:
                found = Study(files.domain(), checkpoints, n_train, ["full", "gradual"], seeds, folder=cache/"study", image_size=SIDE, **fields)
                found.run(engine=engine, workers=2 if engine == "processes" else None)
                return found, Store(found.folder).table().set_index("recipe_id")
        def two_threads():
            with our_threads(2): return study("inline")
        mine, other, (found, table), (_, threaded) = in_turns(lambda: study("processes"), two_threads, turns)
        with fresh_cache():
            some = [r for _, r in found.grid[:2]]
            same = all(fit(r, found.target, checkpoints).facts["trained"] == table.trained[r.id] for r in some)
    off = float((table.auc - threaded.auc).abs().max())
    said = (f"weights of {len(some)} of {len(table)} runs equal to the bit those of one thread in this process: {yes(same)}; "
            f"AUCs of two threads differ by {off:.3f} at most; runs alone take {table.seconds.sum():.3g} s on one thread, {threaded.seconds.sum():.3g} s on two: "
            f"two processes can't be more than {2*threaded.seconds.sum()/table.seconds.sum():.3g} × as quick")
    return Outcome(mine, other, same and sorted(table.index) == sorted(threaded.index), said, threads="2 processes of one thread, 1 of two")


LINES = [
    Line("probe", "linear probing, 400 images, 20 epochs, from files to test AUC", "vision_learner, freeze, fit_one_cycle", 20, probe),
    Line("gradual", "a stage opens every second of 8 epochs, 400 images", "freeze_to in fastai", 2, gradual),
    Line("full", "full fine-tuning, 400 images, 3 epochs", "fastai, same batches", 1.3, full),
    Line("lr_finder", "LR finder with frozen stages, 100 steps, 400 images", "learn.lr_find()", 5, lr_finder),
    Line("probes_240", "4 sources × 6 sizes × 10 seeds of linear probes", "fastai in turn (6 timed, scaled)", 200, probes_240),
    Line("dicom_epoch", "a second epoch from 200 DICOM files", "PILDicom DataLoaders", 20, dicom_epoch),
    Line("dicom_decode", "first decoding of 500 compressed DICOM files, 2 processes", "dcmread(…).pixel_array in a loop", 1.5, dicom_decode),
    Line("import", "ttl-nb --help", "from fastai.vision.all import *", 5, start),
    Line("processes", "a study with 2 processes of one thread", "1 process of two threads", 1.3, processes),
]

if __name__ == "__main__": sys.exit(main(LINES))
