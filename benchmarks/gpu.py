"""How quick is ttl_nb on a card? `python benchmarks/gpu.py [--json FILE] [--only NAME] [--quick] [--device cuda] [--paper]`

resnet50 and densenet121 at 224 pixels, all layers and the head alone, on the same weights, images, batches and card as stock
fastai, fed from files (as people start) and from memory, as a plain PyTorch loop as an engineer would write it (images on the
card, bfloat16, channels last, fused Adam), and as that loop with its step captured as a CUDA graph. Seconds are those of the
training, the first epoch counted, after one untimed turn of each; the share is of the card's own rate in a large bfloat16 matrix
product. Real radiographs are 128 pixels a side and are scaled up. `--paper` runs the published protocol instead: DenseNet121,
gradual unfreezing in one cycle, sources of two body parts and none. `--quick --device cpu` tries it all where there is no card."""
import argparse, os, sys, time
from dataclasses import dataclass
from functools import cache, cached_property

from runner import Bound, Figures, Found, Line, Outcome, between, main, mean_interval, seconds_of, short, temporary_folder
from similarity import resident
from speed import Images, fresh_cache, images, real_folder, recipe, source

OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--device", default="cuda", help="where to train (cuda)")
OPTIONS.add_argument("--batch", type=int, default=64, help="images in a batch (64)")
OPTIONS.add_argument("--paper", action="store_true", help="run the published protocol instead")
SAYS = argparse.Namespace(device="cuda", batch=64, paper=False)


# The card

def card():
    "Its name and CUDA's version; empty where there is none."
    import torch
    if not SAYS.device.startswith("cuda") or not torch.cuda.is_available(): return ""
    return f"{torch.cuda.get_device_name(SAYS.device)} (CUDA {torch.version.cuda})"


def wait():
    "Until the card has done what it was given."
    import torch
    if card(): torch.cuda.synchronize(SAYS.device)


@cache
def matrix_rate(quick): # Operations a second
    "The card's best in a product of two large bfloat16 matrices."
    import torch
    n, best = (256, 0.) if quick else (8192, 0.)
    a, b = (torch.randn(n, n, device=SAYS.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3 if quick else 20):
        wait()
        def product(): a @ b; wait()
        best = max(best, 2*n**3/seconds_of(product)[0])
    return best


def peak_of(f): # Megabytes
    "Memory of the card that a call takes; of the process, where there is no card."
    import torch
    if card(): torch.cuda.reset_peak_memory_stats(SAYS.device)
    f()
    return torch.cuda.max_memory_allocated(SAYS.device)/1e6 if card() else resident()[1]


# What all sides train

@dataclass(frozen=True)
class Task:
    "A network, a plan and the images."
    backbone: str
    freezing: str # `full` or `head`
    files: Images
    n: int # Training images: whole batches
    side: int # Pixels a side
    batch: int
    epochs: int

    @cached_property
    def domain(self): return self.files.domain()
    @cached_property
    def pixels(self): # (n,side,side) uint8
        from ttl_nb.data.pixels import load_pixels
        return load_pixels(self.domain, self.side)
    @property
    def device(self):
        import torch
        return torch.device(SAYS.device)
    @property
    def source(self): return source(0, self.backbone)
    def part(self, split): # Images and labels as tensors
        import torch
        rows = getattr(self.domain.splits(0)[0], split)
        return torch.from_numpy(self.pixels[rows])[:, None], torch.from_numpy(self.domain.labels[rows])


def clock():
    "A fastai callback that adds up the seconds of training, without validation."
    from fastai.callback.core import Callback
    class Clock(Callback):
        seconds = 0.
        def before_train(self): wait(); self.start = time.perf_counter()
        def after_train(self): wait(); self.seconds += time.perf_counter() - self.start
    return Clock()


# The sides: each trains once and returns (seconds, AUC)

def ours(task, seed):
    from ttl_nb.train.fit import fit
    timed, says = clock(), recipe(task.freezing, task.n, task.epochs, backbone=task.backbone, image_size=task.side, batch_size=task.batch, lr_ratio=1.,
                                  precision="bfloat16", seed=seed, subset_seed=0)
    run = fit(says, task.domain, {"source": task.source}, task.pixels, cbs=[timed], device=task.device)
    return timed.seconds, run.auc


def fastai(task, seed, dls):
    "`vision_learner` with the same weights and a linear head."
    import torch, torchvision
    import peer
    from fastai.losses import CrossEntropyLossFlat
    from fastai.metrics import RocAucBinary
    from fastai.vision.learner import vision_learner
    from torch import nn
    from ttl_nb.models.backbone import original_names
    from ttl_nb.models.stages import backbone_named
    torch.manual_seed(seed)
    relu = [nn.ReLU()]*task.backbone.startswith("densenet") # torchvision's own follows its features
    head = nn.Sequential(*relu, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(backbone_named(task.backbone).n_features, 2))
    learn = vision_learner(dls, getattr(torchvision.models, task.backbone), pretrained=False, n_in=1, n_out=2, custom_head=head, normalize=False,
                           metrics=RocAucBinary(), loss_func=CrossEntropyLossFlat())
    learn.model[0].load_state_dict({k: task.source.state[v] for k, v in original_names(task.backbone, numbered=True).items() if v})
    learn.unfreeze() if task.freezing == "full" else learn.freeze()
    timed = clock()
    auc = peer.train(learn, task.epochs, cbs=[timed])
    return timed.seconds, float(auc)


def from_files(task, seed):
    import peer
    dls = peer.loaders(task.files.items(), task.side, min(16, os.cpu_count()) if card() else 0, batch=task.batch)
    return fastai(task, seed, dls.to(task.device))


def from_memory(task, seed):
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from torch.utils.data import TensorDataset
    (x, y), (tx, ty) = task.part("train"), task.part("test")
    train, test = (TensorDataset((a.float()/255 - .5)/.25, b) for a, b in ((x, y), (tx, ty)))
    return fastai(task, seed, DataLoaders(DataLoader(train, task.batch, shuffle=True, drop_last=True), DataLoader(test, 2*task.batch), device=task.device))


def network(task):
    "torchvision's own network with the source's weights; the head alone may learn."
    import torch, torchvision
    from torch import nn
    from ttl_nb.models.backbone import original_names
    net = getattr(torchvision.models, task.backbone)(num_classes=2)
    name, conv = next((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d))
    net.set_submodule(name, nn.Conv2d(1, conv.out_channels, conv.kernel_size, conv.stride, conv.padding, bias=False))
    net.load_state_dict({k: task.source.state[v] for k, v in original_names(task.backbone).items() if v}, strict=False)
    if task.freezing == "head":
        net.requires_grad_(False)
        [m for m in net.modules() if isinstance(m, nn.Linear)][-1].requires_grad_(True)
    return net.train(task.freezing == "full").to(task.device, memory_format=torch.channels_last)


def loop(task, seed, captured=False):
    import torch
    from ttl_nb.analysis.metrics import auc
    from ttl_nb.train.callbacks import has_bfloat16
    torch.manual_seed(seed)
    net, (x, y), (tx, ty) = network(task), task.part("train"), task.part("test")
    x, y, tx = (t.to(task.device) for t in (x, y, tx))
    step, steps = net, task.epochs*(task.n//task.batch)
    opt = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(opt, 1e-3, steps)
    half = torch.autocast(task.device.type, torch.bfloat16, enabled=has_bfloat16(task.device), cache_enabled=not captured)
    def given(images): return ((images.float()/255 - .5)/.25).contiguous(memory_format=torch.channels_last)
    if captured:
        with half: step = torch.cuda.make_graphed_callables(net, (given(x[:task.batch]),))
    wait()
    start = time.perf_counter()
    for _ in range(task.epochs):
        for rows in torch.randperm(task.n, device=task.device).split(task.batch):
            with half: out = step(given(x[rows]))
            torch.nn.functional.cross_entropy(out.float(), y[rows]).backward()
            opt.step(); opt.zero_grad(); schedule.step()
    wait()
    seconds = time.perf_counter() - start
    net.eval()
    with torch.no_grad(), half: found = torch.cat([net(given(part)).float().softmax(1) for part in tx.split(task.batch)])
    return seconds, auc(ty.numpy(), found.cpu().numpy())


def captured(task, seed): return loop(task, seed, True)


def operations(task): # Of one image: a multiplication and an addition count as two
    "What one training step computes, counted."
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    net = network(task)
    with FlopCounterMode(display=False) as counter: net(torch.zeros(2, 1, task.side, task.side, device=task.device)).sum().backward()
    return counter.get_total_flops()/2


# Lines

def turns_of(sides, task, turns): # `sides`: name -> function of task and seed
    "Name -> (seconds, AUC) of each turn; all sides in every turn, one untimed turn before."
    found = {name: [] for name in sides}
    for turn in range(-1, turns):
        for name, side in sides.items():
            one = side(task, max(turn, 0))
            if turn >= 0: found[name].append(one)
    return {name: tuple(zip(*f)) for name, f in found.items()}


def measured(backbone, freezing, quick):
    n, tests, side, batch, epochs, turns = (16, 12, 64, 8, 1, 1) if quick else (30*SAYS.batch, 400, 224, SAYS.batch, 4, 3)
    sides = dict(ours=ours, files=from_files, memory=from_memory, loop=loop) | (dict(captured=captured) if card() and freezing == "full" else {})
    name = f"{backbone}_{'full' if freezing == 'full' else 'probe'}"
    with temporary_folder() as folder, fresh_cache():
        task = Task(backbone, freezing, images(folder, n, tests), n, side, batch, epochs)
        found = turns_of(sides, task, turns)
        peak = peak_of(lambda: ours(task, 0))
        each = operations(task)
    rate = {s: n*epochs/sorted(seconds)[len(seconds)//2] for s, (seconds, _) in found.items()}
    same = {s: mean_interval([a - b for a, b in zip(found["ours"][1], found[s][1])]) for s in sides if s != "ours"}
    equal = [s for s in same if freezing == "full" or s in ("loop", "captured")] # fastai's BatchNorm goes on learning below the head
    bounds = [Bound(f"{name}_images_s", rate["ours"], "1/s"), Bound(f"{name}_over_memory", rate["ours"]/rate["memory"], "×"),
              *[Bound(f"{name}_over_{s}", rate["ours"]/rate[s], "×") for s in ("loop", "captured") if s in rate],
              *[Bound(f"{name}_share_pct", 100*rate["ours"]*each/matrix_rate(quick), "%")]*(freezing == "full"), Bound(f"{name}_peak_mb", peak, "MB")]
    said = (f"images a second: {', '.join(f'{s} {short(r)}' for s, r in rate.items())}; {each/1e9:.3g} GFLOP an image, matrix product "
            f"{matrix_rate(quick)/1e12:.3g} TFLOP/s; AUC {', '.join(f'{s} {sum(a)/len(a):.3f}' for s, (_, a) in found.items())}; "
            f"ours less theirs {', '.join(f'{s} {between(*i)}' for s, i in same.items())}")
    return Outcome(list(found["ours"][0]), list(found["files"][0]), quick or all(within(same[s]) for s in equal), said,
                   threads=f"batches of {batch} at {side} pixels", bounds=tuple(bounds))


def within(difference, room=.005): # (mean, low, high) of paired differences
    "Is a difference within the noise of the seeds, or too small to matter?"
    mean, low, high = difference
    return abs(mean) <= room or low <= 0 <= high


# The published protocol

PAPER = dict(backbone="densenet121", image_size=224, freezing="gradual", batch_norm="live", lr_ratio=3., max_lr=1e-3, pct_start=.3, batch_size=16, epochs=10,
             min_steps=0, tta=4, precision="bfloat16")
SOURCES, SIZES = ("chest_nih", "knee_oai", "none"), (50, 200, 1000, 2000)

def collection(name):
    "One of the folders of real radiographs."
    from ttl_nb.data.catalog import from_csv
    if (folder := real_folder()) is None: raise RuntimeError("the published protocol needs real radiographs: set TTL_NB_REAL_DATA to their folder")
    return from_csv(folder.parent/name/"labels.csv", name=name)


def paper(quick):
    import torch
    from ttl_nb.data.pixels import load_pixels
    from ttl_nb.train.fit import fit, pretrain
    from ttl_nb.train.recipe import Recipe
    small = dict(image_size=32, epochs=1, tta=1) if quick else {}
    target, device, aucs = collection("chest_kermany"), torch.device(SAYS.device), {}
    learn = {k: (PAPER | small)[k] for k in ("backbone", "image_size", "precision")} | (dict(epochs=1, min_steps=1) if quick else {})
    with fresh_cache():
        pixels = load_pixels(target, learn["image_size"])
        sources = {name: pretrain(collection(name), 16 if quick else 662, device=device, **learn) for name in SOURCES[:-1]}
        for name in SOURCES:
            for n in SIZES[:1] if quick else SIZES:
                says = PAPER | small | dict(source=name, n_train=8 if quick else n) | (dict(freezing="full") if name == "none" else {})
                aucs[name, n] = fit(Recipe(target.name, **says), target, sources, pixels, device=device).auc_ci
    said = (f"128-pixel radiographs scaled up to {learn['image_size']}; each source 662 images and one pretraining, one seed: no comparison of sources; "
            f"{'; '.join(f'{name} at {n} {ci}' for (name, n), ci in aucs.items())}")
    return Found({f"auc_{name}_{n}": aucs.get((name, n), aucs[name, SIZES[0]]).estimate for name in SOURCES for n in SIZES}, said)


def line(backbone, freezing):
    what = f"{backbone} at 224 pixels, {'all layers learn' if freezing == 'full' else 'the head alone learns'}"
    return Line(f"{backbone}_{'full' if freezing == 'full' else 'probe'}", what, "stock fastai from files", 3, lambda quick: measured(backbone, freezing, quick))

LINES = [line(b, f) for b in ("resnet50", "densenet121") for f in ("full", "head")]
PROTOCOL = [Figures("paper", "AUC by source and training images, published protocol", {f"auc_{s}_{n}": ("", None) for s in SOURCES for n in SIZES}, paper)]

if __name__ == "__main__":
    OPTIONS.parse_known_args(namespace=SAYS)
    if SAYS.device.startswith("cuda") and not card() and not {"-h", "--help"} & {*sys.argv}:
        sys.exit("there is no card here; --quick --device cpu tries everything at a tiny size")
    sys.exit(main(PROTOCOL if SAYS.paper else LINES, options=OPTIONS, says=SAYS, card=card()))
