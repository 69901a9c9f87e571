"""How quick and how small is CKA of all layers with all layers? `python benchmarks/similarity.py [--json FILE] [--only NAME] [--quick]`

Against torch-cka on the same two networks, images and threads. torch-cka averages over minibatches and has neither a null band
nor intervals; here all images count at once, and both are part of the time. Its batch size and threads are those at which it is
quickest. Where it takes minutes a part of its batches is timed: all of them cost the same. Memory is that of a process of its own."""
import contextlib, io, sys, warnings
from functools import cache
from pathlib import Path

from runner import Figures, Found, Line, Outcome, in_process, in_turns, main, seconds_of, short

SIDE = 64 # Pixels a side
IMAGES = 512
PACKAGES = ("torch", "torchvision", "torch_cka", "numpy", "scipy")


# What both sides see

def images(n, side=SIDE): # (n,side,side) uint8
    "Waves of several lengths and directions, with noise: no two alike."
    import numpy as np
    g, (y, x) = np.random.default_rng(0), np.mgrid[:side, :side]
    waves = (np.sin(g.uniform(.05, .6)*x + g.uniform(.05, .6)*y + g.uniform(0, 6)) for _ in range(n))
    return np.stack([(127 + 80*wave + 20*g.normal(size=wave.shape)).clip(0, 255).astype(np.uint8) for wave in waves])


def networks(backbone): # Two of them
    "The same network, drawn twice."
    from ttl_nb.analysis.activations import pixels_as_input
    from ttl_nb.models.backbone import create_backbone
    from ttl_nb.models.initial import draw_all, reestimate_statistics
    nets = [draw_all(create_backbone(backbone), seed) for seed in (0, 1)]
    for net in nets: reestimate_statistics(net, [pixels_as_input(images(64, 32))])
    return [net.eval() for net in nets]


# The peer

def peer_cka(nets, x, batch, layers=None): # `x`: (n,1,H,W) input; `layers`: all modules if `None`
    "torch-cka's matrix of two networks."
    import torch
    from torch.utils.data import DataLoader, TensorDataset
    from torch_cka import CKA
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        found = CKA(*nets, model1_name="a", model2_name="b", model1_layers=layers, model2_layers=layers)
        try: found.compare(DataLoader(TensorDataset(x), batch))
        finally:
            for m in (m for net in nets for m in net.modules()): m._forward_hooks.clear() # It leaves its hooks
    return found.hsic_matrix


def in_its_layout(nets, x): # Copies of both
    "Networks and input as torch has them by default: torch-cka flattens each output again for each pair, which costs it a copy in any other layout."
    import copy, torch
    return [copy.deepcopy(net).to(memory_format=torch.contiguous_format) for net in nets], x.contiguous(memory_format=torch.contiguous_format)


def in_double(nets, x, layers): # As `peer_cka`
    "torch-cka's matrix from one batch in double precision: its single precision loses what is small beside the mean, since it doesn't centre."
    import copy, torch
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try: return peer_cka([copy.deepcopy(net).double() for net in nets], x.double(), len(x), layers).numpy()
    finally: torch.set_default_dtype(before)


@cache
def quickest(): # (threads, batch size)
    "What the peer is quickest with, tried on the smaller networks."
    from peer import torch_threads
    from ttl_nb.analysis.activations import pixels_as_input
    nets, x = in_its_layout(networks("resnet18"), pixels_as_input(images(64)))
    seconds = {}
    for threads, batch in ((1, 16), (1, 32), (1, 64), (2, 32)):
        with torch_threads(threads): seconds[threads, batch], _ = seconds_of(lambda: peer_cka(nets, x, batch))
    return min(seconds, key=seconds.get)


# What has to be equal

def gram(x): # (n,d) float64 array
    "Products of all rows with all, centred, with zeros on the diagonal."
    import numpy as np
    x = x - x.mean(0)
    k = x @ x.T
    np.fill_diagonal(k, 0)
    return k


def straight(k, l): # From `gram`
    "CKA from its definition: the three terms of HSIC."
    import numpy as np
    def hsic(k, l):
        n, ones = len(k), np.ones(len(k))
        return (k*l).sum() + k.sum()*l.sum()/((n - 1)*(n - 2)) - 2/(n - 2)*(ones @ k @ l @ ones)
    return hsic(k, l)/np.sqrt(hsic(k, k)*hsic(l, l))


def off_definition(nets, pixels, found): # A `Similarity`
    "The largest difference to the definition, over some pairs of layers."
    from ttl_nb.analysis.activations import capture
    names = [l for l in found.rows if l in ("stem.0", "stage1", "stage3", "pool", "head")]
    a, b = ({l: gram(x.flatten(1).double().numpy()) for l, x in capture(net, pixels, names).items()} for net in nets)
    return max(abs(float(found.table.loc[i, j]) - straight(a[i], b[j])) for i in names for j in names)


def off_peer(backbone, pixels):
    "The largest difference to torch-cka on one batch, over the layers that nothing works in place on, in the order in which both see them."
    import numpy as np
    from torch import nn
    from ttl_nb.analysis.activations import pixels_as_input
    from ttl_nb.analysis.similarity import compare_layers
    nets = networks(backbone)
    for m in (m for net in nets for m in net.modules()):
        if isinstance(m, nn.ReLU): m.inplace = False
    def in_place(l, m): # Blocks call a ReLU twice, and add to the output of their last norm
        return "stage" in l and (isinstance(m, nn.ReLU) or l.endswith(("bn2", "bn3")))
    layers = [l for l, m in nets[0].named_modules() if not list(m.children()) and not in_place(l, m)]
    return float(np.abs(compare_layers(*nets, pixels, layers).matrix - in_double(nets, pixels_as_input(pixels), layers)).max())


def all_pairs(backbone, part, turns, quick): # `part`: how many eighths of the peer's batches are timed
    "Time all layers against all layers."
    from peer import torch_threads
    from ttl_nb.analysis.activations import pixels_as_input
    from ttl_nb.analysis.similarity import compare_layers
    pixels, nets = images(64 if quick else IMAGES, 32 if quick else SIDE), networks("resnet10" if quick else backbone)
    its_nets, x = in_its_layout(nets, pixels_as_input(pixels))
    threads, batch = (1, 32) if quick else quickest()
    timed = x[:32 if quick else len(x)*part//8]
    with torch_threads(threads):
        mine, other, found, _ = in_turns(lambda: compare_layers(*nets, pixels), lambda: peer_cka(its_nets, timed, batch), turns)
    off, apart = off_definition(nets, pixels, found), off_peer("resnet10" if quick else backbone, pixels[:32])
    said = (f"{len(found.rows)} × {len(found.columns)} layers of {found.n} images with null band ±{found.band[1]:.4f} and intervals; "
            f"{off:.1e} off the definition, {apart:.1e} off torch-cka on one batch without in-place operations, both in double precision (1e-5 is allowed)")
    how = f"both {threads} thread{'s'*(threads > 1)}, the peer batches of {batch}"
    return Outcome(mine, other, max(off, apart) <= 1e-5, said, share=len(timed)/len(x), threads=how)


def resnet18(quick): return all_pairs("resnet18", 2, 1 if quick else 2, quick)
def resnet50(quick): return all_pairs("resnet50", 1, 1 if quick else 2, quick)


# Memory, in processes of their own

def resident(): # Megabytes
    "What this process holds, and the most that it held."
    # Not ru_maxrss: a child inherits it from the process that it was forked from, which may have been larger
    says = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(says[k].split()[0])*1024/1e6 for k in ("VmRSS", "VmHWM"))


def peak(backbone, n): # Megabytes before, at the most
    from ttl_nb.analysis.similarity import compare_layers
    pixels, nets = images(n), networks(backbone)
    before, _ = resident()
    compare_layers(*nets, pixels)
    return before, resident()[1]


def cka_peak(quick):
    n = 64 if quick else IMAGES
    found = {b: in_process("similarity", f"peak({b!r}, {n})") for b in (("resnet10",) if quick else ("resnet18", "resnet50"))}
    said = "; ".join(f"{b}: {before:.0f} MB with torch and both networks loaded, {most:.0f} MB at the most"
                     for b, (before, most) in found.items())
    return Found({"cka_peak_mb": next(iter(found.values()))[1]}, f"{n} images at {SIDE} pixels, the whole process; {said}")


def streamed(n, first): # Megabytes at the most after `first` images, and after all
    import numpy as np
    from ttl_nb.analysis.similarity import StreamedCKA, gram_matrices
    nets, found, most = networks("resnet10"), StreamedCKA(), None
    g = np.random.default_rng(0)
    for i in range(0, n, 64):
        batch = g.integers(0, 255, (64, 32, 32), dtype=np.uint8)
        found.update(*(gram_matrices(net, batch) for net in nets))
        if found.n >= first and most is None: most = resident()[1]
    return most, resident()[1], found.n, len(found.rows)


def stream_growth(quick):
    n, first = (1024, 256) if quick else (20_032, 2_048)
    early, late, seen, layers = in_process("similarity", f"streamed({n}, {first})")
    said = f"{seen} images through two resnet10, {layers} × {layers} layers: at the most {short(early)} MB after {first} images, {short(late)} MB in the end"
    return Found({"stream_mb_growth": late - early}, said, seen == n)


LINES = [
    Line("cka_resnet18", "all layers × all layers of two resnet18, 512 images at 64 px", "torch-cka", 3, resnet18),
    Line("cka_resnet50", "the same of two resnet50", "torch-cka", 6, resnet50),
    Figures("cka_peak", "memory of the first, whole process", {"cka_peak_mb": ("MB", 1500)}, cka_peak),
    Figures("stream_growth", "memory that 18,000 more streamed images take", {"stream_mb_growth": ("MB", 20)}, stream_growth),
]

if __name__ == "__main__": sys.exit(main(LINES, packages=PACKAGES))
