"""How often are verdicts wrong where the truth is known? `python benchmarks/calibration.py [--studies 1000] [--json FILE]`

Studies are drawn from a model of seeds, checkpoints and patients. The score of run s of arm a for image i of patient p is
(strength_a + common_s + seed_as + checkpoint_ak)·y + case_p + case_ap + noise_asi, all normal, so that the mean AUC of an arm over
all seeds, checkpoints and patients is known (`Model.strength`) and a difference can be planted exactly. With that difference on the
margin every "supported" and every "contradicted" is an error."""
import argparse, json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.stats import norm

from ttl_nb.analysis.metrics import Influence, _influence
from ttl_nb.study.claims import judge, judge_spread
from ttl_nb.study.results import Arm, compare_arms

ALLOWED = .065 # Of studies whose verdict is wrong in one way, at nominal .05 (.025 for better)


@dataclass(frozen=True)
class Model:
    "Spreads, in units of the noise between images."
    patients: int = 300
    base: float = .80 # AUC of the second arm
    case: float = .6 # Patients that every arm finds hard
    case_arm: float = .3 # Patients that one arm finds hard
    noise: float = .6 # What is left between images of one run
    common: float = .10 # Draws of images that are good for all arms
    seed: float = .12 # Seeds of an arm: about .03 AUC
    checkpoint: float = .06 # Its pretrainings: about .016 AUC

    @property
    def below(self): return 2*(self.case**2 + self.case_arm**2 + self.noise**2)

    def strength(self, auc, checkpoints):
        "The strength whose mean AUC is `auc`: E Φ((m + τz)/b) = Φ(m/√(b² + τ²))."
        spread = self.common**2 + self.seed**2 + (self.checkpoint**2 if checkpoints else 0)
        return norm.ppf(auc)*np.sqrt(self.below + spread)


def draw_arms(rng, model, aucs, seeds, checkpoints=0): # `aucs`: true mean AUC of each arm
    "Arms of one study: the same patients and seeds."
    n = model.patients
    patient = np.repeat(np.arange(n), rng.integers(1, 3, n)) # One or two images each
    y, case, common = np.arange(n) % 2, rng.normal(0, model.case, n), rng.normal(0, model.common, seeds)
    arms = []
    for auc in aucs:
        own = case + rng.normal(0, model.case_arm, n)
        push = model.strength(auc, checkpoints) + common + rng.normal(0, model.seed, seeds)
        which = np.arange(seeds) % max(checkpoints, 1)
        if checkpoints: push = push + rng.normal(0, model.checkpoint, checkpoints)[which]
        scores = push[:, None]*y[patient] + own[patient] + rng.normal(0, model.noise, (seeds, len(patient)))
        runs = [Influence(a, p, np.arange(n)) for a,p in zip(*_influence(y[patient] == 1, scores, patient, n)[:2])]
        arms.append(Arm(range(seeds), runs, [f"{len(arms)}-{k}" for k in which] if checkpoints else None))
    return arms


def draw_verdict(rng, model, difference, kind, margin, seeds, checkpoints=0, sizes=1):
    "The verdict of one study."
    found = {50*2**i: compare_arms(*draw_arms(rng, model, (model.base + difference, model.base), seeds, checkpoints)) for i in range(sizes)}
    return judge("simulated", found, kind, margin, n_patients=model.patients).verdict


def true_spread(rng, model, seeds, studies=100):
    "SD of one run over seeds, as a study measures it."
    return float(np.sqrt(np.mean([np.var([i.auc for i in a.influences], ddof=1) for _ in range(studies) for a in draw_arms(rng, model, [model.base], seeds)])))


def rates(draw, studies, seed=0):
    "Shares of the verdicts."
    found = [draw(np.random.default_rng([seed, i])) for i in range(studies)]
    return {v: found.count(v)/studies for v in ("supported", "contradicted", "not resolved")}


DESIGNS = {"10 seeds": dict(seeds=10), "5 seeds": dict(seeds=5), "20 seeds, 5 pretrainings": dict(seeds=20, checkpoints=5), "12 seeds, 3 pretrainings": dict(seeds=12, checkpoints=3),
           "10 seeds, three sizes": dict(seeds=10, sizes=3)}
QUESTIONS = {"better, truth 0": (0., "superiority", 0.), "better by .03, truth .03": (.03, "superiority", .03),
             "within .02, truth .02": (.02, "equivalence", .02), "within .02, truth −.02": (-.02, "equivalence", .02)}


SHARP = Model(patients=500, case_arm=.1, noise=.4, seed=.06, checkpoint=.02) # Where equivalence can be shown at all


@cache
def spread_effect(): return true_spread(np.random.default_rng(99), Model(), 20)


def scenarios(model=Model()):
    "Name -> what draws one verdict."
    of = lambda q: SHARP if q.startswith("within") else model
    found = {f"{q}; {d}": (lambda rng, q=q, Q=Q, D=D: draw_verdict(rng, of(q), *Q, **D)) for q,Q in QUESTIONS.items() for d,D in DESIGNS.items()}
    found["spread over seeds equals the effect; 10 seeds"] = lambda rng: judge_spread(
        "simulated", dict(zip("ab", draw_arms(rng, model, (model.base - spread_effect(), model.base), 10)))).verdict
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--only", default="", help="scenarios whose name holds this")
    parser.add_argument("--json", type=Path)
    asked, table = parser.parse_args(), {}
    for name,draw in scenarios().items():
        if asked.only not in name: continue
        table[name] = r = rates(draw, asked.studies)
        wrong = max(r["supported"], r["contradicted"])
        print(f"{name:50} supported {r['supported']:.3f}  contradicted {r['contradicted']:.3f}  {'ok' if wrong <= ALLOWED else 'ABOVE ' + str(ALLOWED)}", flush=True)
    if asked.json: asked.json.write_text(json.dumps(table, indent=1))
    return int(any(max(r["supported"], r["contradicted"]) > ALLOWED for r in table.values()))


if __name__ == "__main__": raise SystemExit(main())
