"""What processes that a launcher has started do together:
processes.py steps PHOTOS OUT NAME=MICRO_BS … 21 steps of each stage, in parts or whole (none); the main one writes what they came to into OUT/NAME
processes.py train PHOTOS OUT               both stages into OUT/whole; and into OUT/run, stopped in stage 1 by a signal that one process alone hears
processes.py resume OUT                     go on with OUT/run"""
import json, os, signal, sys
from pathlib import Path
import torch
from fastai.callback.core import Callback
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.callbacks import EMA
from colorize_fastai.train import resume, train
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import Noise, pix2pix_generator
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.machine import gathered, rank
from colorize_fastai.run import Run, Stopped

class Losses(Callback):
    "The loss of each step, in both stages"
    def __init__(self): super().__init__(); self.steps = []
    def after_batch(self):
        if self.training: self.steps.append(self.learn.loss.item())

class StepLosses:
    def __init__(self): self.steps = []
    def after_step(self, t): self.steps.append([v.item() for v in t.last.values()])

def photos_of(dl):
    "The photos that this process reads in an epoch"
    seen, dl.square = [], lambda i, *args: seen.append(i) or type(dl).square(dl, i, *args)
    for b in dl: pass
    del dl.square
    dl.set_epoch(0)
    return seen

def steps(photos, out, *how):
    for o in how:
        name, micro_bs = o.split('=')
        done = fitted(photos, None if micro_bs == 'none' else int(micro_bs))
        if rank() == 0: (Path(out)/name).write_text(json.dumps(done))

def refusal(photo):
    "What is said where there are fewer photos than processes"
    try: colorize_dls(photo, size=32, verbose=False)
    except ValueError as e: return str(e)

def fitted(photos, micro_bs):
    dls = colorize_dls(photos, size=32, bs=6, valid_pct=.28, num_workers=0, device='cpu', verbose=False)
    torch.manual_seed(0)
    net = pix2pix_generator(norm='instance', n_features=8, levels=4)
    for m in net.modules():
        if isinstance(m, Noise): m.p = 0. # each process would draw its own
    one, two = Losses(), StepLosses()
    shares = [photos_of(dl) for dl in dls]
    learn = colorize_learner(dls, net, precision='fp32', micro_bs=micro_bs, cbs=one)
    with learn.no_bar(), learn.no_logging(): learn.fit(7, 2e-4)
    t = AdversarialTrainer(net, PatchDiscriminator(16, norm='instance', n_features=8), dls, lr=1e-4, precision='fp32', micro_bs=micro_bs, cbs=[EMA(.9), two])
    t.fit(7, progress=False)
    digest = sum(v.double().abs().sum().item() for v in net.state_dict().values())
    return dict(one=one.steps, two=two.steps, rows=t.rows, valid=list(learn.recorder.values[-1]), shares=gathered(shares), weights=gathered(digest),
                sizes=[len(dl.dataset) for dl in dls], one_photo=gathered(refusal(next(Path(photos).iterdir()))))

def both_stages(photos, out, n=3):
    torch.manual_seed(0)
    net = pix2pix_generator(noise_at_test=True, n_features=4, levels=4) # BatchNorm, and dropout at all times
    train(photos, out, 'quick', generator=net, size=32, bs=2, pretrain_epochs=n, adversarial_epochs=n, n_features=8, ema=.9, valid_pct=.28, num_workers=0, device='cpu',
          progress=False, every=20, minutes=0)

def two_runs(photos, out):
    Run.share, out = 1e12, Path(out) # of the time: a checkpoint whenever there may be one
    both_stages(photos, out/'whole')
    due, calls = Run.due, []
    def _due(*args):
        calls.append(1)
        if len(calls) == 5 and rank() == 1: os.kill(os.getpid(), signal.SIGTERM)
        return due(*args)
    Run.due = _due
    try: both_stages(photos, out/'run')
    except Stopped as e: print(f'rank {rank()}: {e}', file=sys.stderr)

def go_on(out):
    Run.share = 1e12
    resume(Path(out)/'run', progress=False)

if __name__ == '__main__':
    dict(steps=steps, train=two_runs, resume=go_on)[sys.argv[1]](*sys.argv[2:])
