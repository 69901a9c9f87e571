"""What AUC after how many seconds? `python benchmarks/quality.py [--json FILE] [--only NAME] [--quick] [--picture FILE] [--seeds 5]`

From image files to the test AUC, each side as its users start it: fastai's `vision_learner` with its own head and augmentation
and `fine_tune`, a plain PyTorch loop (images decoded once, Adam 1e-4 on all layers, mirrored at random) and this toolkit's
default recipe. All start from the same weights of SqueezeNet 1.1 (ImageNet, if they lie beside the radiographs; else drawn) at
64 pixels, see the same images in batches of 16, and get the same number of epochs: the recipe's own, a third and a tenth of it.
Real radiographs are read from TTL_NB_REAL_DATA or ../shared/data; without them, pictures are drawn."""
import argparse, sys
from functools import cache
from statistics import median

from runner import Bound, Line, Outcome, between, main, mean_interval, seconds_of, temporary_folder
from scaling import powers
from speed import SIDE, Images, fresh_cache, images, real_folder

BATCH, SHARES = 16, (.1, .3, 1.) # Of the default recipe's epochs
NAMES = dict(ours="ttl_nb, default", fastai="fastai fine_tune", loop="plain PyTorch loop")
CURVES = {} # Training images -> {side: {share: ([seconds], [AUC])}}: what was measured
OPTIONS = argparse.ArgumentParser(add_help=False)
OPTIONS.add_argument("--picture", metavar="FILE", help="draw AUC against seconds, a panel for each number of training images")
OPTIONS.add_argument("--seeds", type=int, default=5, help="how many draws of training images (5)")
SAYS = argparse.Namespace(seeds=5)


# What all sides start from

@cache
def weights():
    "SqueezeNet's features under torchvision's names, and where they are from."
    import torch, torchvision
    file = real_folder() and real_folder().parent/"weights/squeezenet1_1_notop_torchvision_norm.pt"
    if file and file.is_file(): return {k.removeprefix("features."): v for k, v in torch.load(file, weights_only=True).items()}, "ImageNet"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.squeezenet1_1().features.state_dict(), "drawn"


def draw(files, folder, n, seed): # All images; where the table goes
    "So many training images of one draw, and all test images."
    import pandas as pd
    from ttl_nb.data.subset import draw_subset
    table = pd.read_csv(files.table)
    table = table.iloc[[*draw_subset(files.domain(), n, seed), *(table["split"] == "test").to_numpy().nonzero()[0]]]
    table.to_csv(folder/"table.csv", index=False)
    return Images(folder/"table.csv", files.folder)


# The sides: each trains once, and gives its test AUC

def ours(files, n, seed, epochs):
    from ttl_nb.models.imported import to_checkpoint
    from ttl_nb.train.fit import fit
    from ttl_nb.train.recipe import Recipe
    checkpoint = to_checkpoint(weights()[0], "squeezenet1_1", "imagenet", "these weights")
    says = Recipe("target", source="imagenet", backbone="squeezenet1_1", image_size=SIDE, n_train=n, seed=seed, epochs=epochs, min_steps=0, batch_size=BATCH)
    with fresh_cache(): return fit(says, files.domain(), {"imagenet": checkpoint}).auc


def learner(files, seed, workers):
    "What fastai's tutorials do."
    import torch
    import fastai.callback.schedule # noqa: F401 (gives a Learner its `fine_tune`)
    from fastai.data.block import CategoryBlock, DataBlock
    from fastai.data.transforms import ColReader, ColSplitter, Normalize
    from fastai.vision.augment import Resize, aug_transforms
    from fastai.vision.core import imagenet_stats
    from fastai.vision.data import ImageBlock
    from fastai.vision.learner import vision_learner
    from torchvision.models import squeezenet1_1
    torch.manual_seed(seed)
    block = DataBlock((ImageBlock, CategoryBlock), get_x=ColReader("file"), get_y=ColReader("label"), splitter=ColSplitter("is_valid"),
                      item_tfms=Resize(SIDE, method="squish"), batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats, cuda=False)])
    learn = vision_learner(block.dataloaders(files.items(), bs=BATCH, num_workers=workers, device="cpu"), squeezenet1_1, pretrained=False)
    learn.model[0][0].load_state_dict(weights()[0])
    return learn


def fastai(files, n, seed, epochs, workers=0):
    from ttl_nb.analysis.metrics import auc
    from ttl_nb.train.callbacks import NoValidation
    learn = learner(files, seed, workers)
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(max(1, epochs - 1), cbs=[NoValidation()]) # One more before, of the head
        scores, labels = learn.get_preds()
    return auc(labels.numpy(), scores.numpy())


def loop(files, n, seed, epochs):
    import numpy as np, torch
    from PIL import Image
    from torch import nn
    from torchvision.models import squeezenet1_1
    from ttl_nb.analysis.metrics import auc
    torch.manual_seed(seed)
    table = files.items()
    x = torch.stack([torch.from_numpy(np.array(Image.open(f).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR))) for f in table["file"]])
    mean, std = (torch.tensor(v)[:, None, None] for v in ((.485, .456, .406), (.229, .224, .225)))
    x, y = (x.permute(0, 3, 1, 2)/255 - mean)/std, torch.from_numpy(table["label"].factorize(sort=True)[0])
    test = torch.tensor(table["is_valid"].to_list())
    net = squeezenet1_1().features
    net.load_state_dict(weights()[0])
    net = nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 2))
    opt, train = torch.optim.Adam(net.parameters(), 1e-4), (~test).nonzero()[:, 0]
    for _ in range(epochs):
        for rows in train[torch.randperm(len(train))].split(BATCH):
            images = torch.where(torch.rand(len(rows), 1, 1, 1) < .5, x[rows].flip(-1), x[rows])
            nn.functional.cross_entropy(net(images), y[rows]).backward()
            opt.step(); opt.zero_grad()
    net.eval()
    with torch.no_grad(): scores = torch.cat([net(part).softmax(1) for part in x[test].split(64)])
    return auc(y[test].numpy(), scores.numpy())


# Lines

def curves(n, seeds, quick):
    "Side -> {share of the epochs: ([seconds], [AUC])}, a value a seed, the sides in turn; what the peer ran with; epochs."
    import peer
    from ttl_nb.train.freezing import budget
    if quick: n = 16
    epochs = {share: 1 if quick else max(1, round(share*budget(n, BATCH))) for share in (SHARES[-1:] if quick else SHARES)}
    found = {side: {share: ([], []) for share in epochs} for side in NAMES}
    with temporary_folder() as folder:
        (folder/"drawn").mkdir()
        files = images(folder, 40, 40) if quick else images(folder, 2000, 468)
        some = draw(files, folder/"drawn", n, 0)
        threads, workers = peer.quickest(f"quality {n}", lambda workers: lambda: fastai(some, n, 0, 2, workers), quick)
        sides = dict(ours=ours, fastai=lambda *args: fastai(*args, workers=workers), loop=loop)
        for run in sides.values(): run(some, n, 0, 1) # Whatever is done once is done before
        for seed in range(seeds):
            some = draw(files, folder/"drawn", n, seed)
            for share, many in epochs.items():
                for side, run in sides.items():
                    with peer.torch_threads(1 if side == "ours" else threads): seconds, auc = seconds_of(lambda: run(some, n, seed, many))
                    for kept, value in zip(found[side][share], (seconds, auc)): kept.append(value)
    return found, f"the peers {threads} thread{'s'*(threads > 1)}, fastai {f'{workers} workers' if workers else 'no workers'}", epochs


def not_worse(a, b): # One a seed, the same seeds
    "(does `a` reach `b` as far as the seeds show?, its difference in words)"
    difference = mean_interval([x - y for x, y in zip(a, b)])
    return not difference[2] < 0, between(*difference)


def measured(n, quick):
    found, threads, epochs = curves(n, 2 if quick else SAYS.seeds, quick)
    CURVES[n] = found
    final = {side: f[1.] for side, f in found.items()}
    (reached, ahead), (_, over_loop) = (not_worse(final["ours"][1], final[side][1]) for side in ("fastai", "loop"))
    each = "; ".join(f"{side} " + ", ".join(f"{between(*mean_interval(a))} in {median(s):.2g} s" for s, a in f.values()) for side, f in found.items())
    bounds = [Bound(f"auc_{side}_{n}", sum(a)/len(a), "") for side, (_, a) in final.items()]
    bounds.append(Bound(f"time_{n}_over_loop", median(final["loop"][0])/median(final["ours"][0]), "×"))
    said = (f"SqueezeNet with {weights()[1]} weights; after {', '.join(f'{e}' for e in epochs.values())} epochs: {each}; "
            f"AUC ours less fastai's {ahead}, less the loop's {over_loop}")
    return Outcome(final["ours"][0], final["fastai"][0], quick or reached, said, threads=threads, bounds=tuple(bounds))


def line(n): return Line(f"time_{n}", f"files to test AUC, {n} images, default epochs", "fastai fine_tune, at no lower AUC", 1, lambda quick: measured(n, quick))

LINES = [line(n) for n in (50, 200, 800)]


# Picture

def draw_panel(ax, n, found, limits): # `found`: as in `CURVES`
    "AUC over seconds at one number of training images."
    import numpy as np
    from ttl_nb.analysis.drawing import dress, label_ends, line_styles
    ends, styles, every = [], line_styles(NAMES), []
    ax.set_ylim(*limits)
    for side, points in found.items():
        x = np.log10([median(s) for s, _ in points.values()])
        mean, low, high = np.array([mean_interval(a) for _, a in points.values()]).T
        style = styles[side]
        ax.vlines(x, low, high, color=style["color"], linewidth=1.1, alpha=.85)
        ax.plot(x, mean, **style, linewidth=1.4, markersize=5.5, markeredgecolor="white", markeredgewidth=.6)
        ends.append((x[-1], mean[-1], NAMES[side], style["color"])); every.extend(x)
    label_ends(ax, ends)
    dress(ax, f"{n} training images", "seconds, files to test AUC", "mean AUC over seeds")
    ax.set_xticks(*powers(min(every) - .3, max(every) + .3))


def picture(curves, file): # As `CURVES`; where it goes
    "A panel for each number of training images, all with one range of scores."
    import numpy as np
    from ttl_nb.analysis.drawing import PANEL, new_panels
    ends = np.array([mean_interval(a) for f in curves.values() for points in f.values() for _, a in points.values()])
    axes = new_panels(len(curves), size=(PANEL[0] + .4, PANEL[1]), right=2.)
    for ax, (n, found) in zip(axes, curves.items()): draw_panel(ax, n, found, (np.nanmin(ends) - .02, min(1.005, np.nanmax(ends) + .02)))
    axes[0].figure.savefig(file, dpi=130)


if __name__ == "__main__":
    status = main(LINES, options=OPTIONS, says=SAYS)
    if SAYS.picture and CURVES: picture(CURVES, SAYS.picture)
    sys.exit(status)
