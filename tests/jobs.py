"What the tests of runs in the background share: a request for a small run, and waiting."
import time

SIDE = 32


def request(kind="fit", watch=False, **fields):
    says = dict(target="phantom-pneumonia", n_train=12, image_size=SIDE, min_steps=8, epochs=1, augment="none", freezing="stage4", batch_size=6)
    return dict(kind=kind, recipe=says | fields, watch=watch)


def until(met, seconds=20., otherwise="it did not come", every=.005):
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, otherwise
        time.sleep(every)
