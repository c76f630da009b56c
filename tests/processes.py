"""What processes that a launcher has started do together:
processes.py steps PHOTOS OUT [MICRO_BS]    21 steps of each stage; the main one writes what they came to into the file OUT
processes.py train PHOTOS OUT               both stages into the run directory OUT, or go on with them"""
import json, sys
import torch
from fastai.callback.core import Callback
from colorize_fastai import train as training
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.callbacks import EMA
from colorize_fastai.train import resume, train
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import Noise, pix2pix_generator
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.machine import gathered, rank
from colorize_fastai.run import Run

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

def steps(photos, out, micro_bs=None):
    micro_bs = micro_bs and int(micro_bs)
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
    done = dict(one=one.steps, two=two.steps, rows=t.rows, valid=list(learn.recorder.values[-1]), shares=gathered(shares), weights=gathered(digest), sizes=[len(dl.dataset) for dl in dls])
    if rank() == 0:
        with open(out, 'w') as f: json.dump(done, f)

def whole(photos, out):
    training.generator_of = lambda cfg: pix2pix_generator(noise_at_test=True, n_features=4, levels=4) # BatchNorm, and dropout at all times
    Run.share = 1e12 # of the time: a checkpoint whenever there may be one
    if 'arguments' in Run(out).config: resume(out, progress=False)
    else: train(photos, out, 'quick', size=32, bs=2, pretrain_epochs=4, adversarial_epochs=4, n_features=8, ema=.9, valid_pct=.28, num_workers=0, device='cpu',
                progress=False, every=10, minutes=0)

if __name__ == '__main__':
    dict(steps=steps, train=whole)[sys.argv[1]](*sys.argv[2:])
