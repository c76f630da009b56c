"Both stages of the preset `tutorial` against plain transcriptions of its recipe (Shariatnia 2020): same weights, same batches, same losses."
import copy
import numpy as np, pandas as pd, pytest, torch
from fastai.callback.core import Callback
from PIL import Image
from skimage.color import rgb2lab
from torch import nn
from conftest import save_crops
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.train import generator_of, stages_of, preset
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import unet_generator
from colorize_fastai.train import pretrain

SIZE = 64
cfg = preset('tutorial', size=SIZE, bs=2, pretrained=False, pretrain_epochs=1)
one, two = stages_of(cfg)
nets = pytest.mark.parametrize('net', ['light', pytest.param('tutorial', marks=pytest.mark.slow)]) # its own has 31 million weights

def generator(net):
    torch.manual_seed(0)
    return generator_of(cfg) if net == 'tutorial' else unet_generator('test_efficientnet', pretrained=False)

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    "Twenty batches of two photos, not square, so that they are stretched"
    root = tmp_path_factory.mktemp('photos')
    save_crops(root, 9, side=(200, 150), size=(80, 60), photos=5)
    return colorize_dls(root, size=SIZE, bs=cfg['bs'], resize=cfg['resize'], load_size=round(SIZE*cfg['load_scale']), valid_pct=.1,
                        num_workers=0, device='cpu', verbose=False)

def assert_close(ours, theirs):
    "20 steps, the same to 1e-5, and they did move"
    ours, theirs = pd.DataFrame(ours), pd.DataFrame(theirs)
    assert len(ours) == len(theirs) == 20 and (ours - theirs).abs().max().max() < 1e-5
    assert (ours.iloc[0] - ours.iloc[-1]).abs().min() > 1e-3

def test_batches(dls):
    "Whole photos stretched with bicubic interpolation, L/50 − 1 and ab/110 of scikit-image's Lab, half of them mirrored"
    dls.train.set_epoch(0)
    files, mirrored = [dls.train_ds[i] for i in dls.train.get_idxs()], []
    photos = [torch.cat(o) for batch in dls.train for o in zip(*batch)]
    for f, x in zip(files[:40], photos, strict=True): # the last is left over from whole batches
        im = Image.open(f).convert('RGB').resize((SIZE, SIZE), Image.Resampling.BICUBIC)
        lab = torch.from_numpy(rgb2lab(np.array(im))).permute(2, 0, 1)
        want = torch.cat([lab[:1]/50 - 1, lab[1:]/110])
        off = [(x - w).abs() for w in (want, want.flip(2))] # ours rounds a few values to the neighboring one of 256
        straight, flipped = (o.max().item() for o in off)
        assert min(straight, flipped) < .03 and min(o.mean() for o in off) < 2e-4
        mirrored.append(flipped < straight)
    assert len(mirrored) == 40 and .25 < np.mean(mirrored) < .75

def reference_pretrain(net, batches):
    opt, l1, losses = torch.optim.Adam(net.parameters(), lr=1e-4), nn.L1Loss(), []
    net.train()
    for L, ab in batches:
        loss = l1(net(L), ab)
        opt.zero_grad()
        loss.backward()
        opt.step()
        losses.append(dict(l1=loss.item()))
    return losses

@nets
def test_stage_1(dls, tmp_path, net):
    class Losses(Callback):
        seen = []
        def after_batch(self):
            if self.training: self.seen.append(dict(l1=self.loss.item()))
    net = generator(net)
    plain = copy.deepcopy(net).to(memory_format=torch.channels_last)
    dls.train.set_epoch(0)
    pretrain(dls, tmp_path, generator=net, metrics=[], progress=False, cbs=Losses(), **one)
    dls.train.set_epoch(0)
    assert_close(Losses.seen, reference_pretrain(plain, dls.train))

class ReferenceStep:
    "The step of stage 2 as the recipe writes it, in plain torch"
    def __init__(self, net_G, net_D):
        self.net_G, self.net_D, self.bce, self.l1 = net_G, net_D, nn.BCEWithLogitsLoss(), nn.L1Loss()
        self.opt_G = torch.optim.Adam(net_G.parameters(), lr=2e-4, betas=(.5, .999))
        self.opt_D = torch.optim.Adam(net_D.parameters(), lr=2e-4, betas=(.5, .999))

    def gan(self, preds, real): return self.bce(preds, torch.tensor(1. if real else 0.).expand_as(preds))

    def optimize(self, L, ab):
        fake = self.net_G(L)
        for p in self.net_D.parameters(): p.requires_grad = True
        self.opt_D.zero_grad()
        loss_D_fake = self.gan(self.net_D(L, fake.detach()), False)
        loss_D_real = self.gan(self.net_D(L, ab), True)
        loss_D = (loss_D_fake + loss_D_real)*.5
        loss_D.backward()
        self.opt_D.step()
        for p in self.net_D.parameters(): p.requires_grad = False
        self.opt_G.zero_grad()
        loss_G_GAN = self.gan(self.net_D(L, fake), True)
        loss_G_L1 = self.l1(fake, ab)
        (loss_G_GAN + loss_G_L1*100.).backward()
        self.opt_G.step()
        return dict(d=loss_D.item(), gan=loss_G_GAN.item(), l1=loss_G_L1.item())

@nets
def test_stage_2(dls, net):
    G, D = generator(net).train(), PatchDiscriminator(two['patch'], n_features=two['n_features'] if net == 'tutorial' else 8).train()
    ref = ReferenceStep(copy.deepcopy(G), copy.deepcopy(D))
    t = AdversarialTrainer(G, D, dls, **{k: v for k,v in two.items() if k not in ('epochs', 'patch', 'n_features', 'conditional', 'norm', 'ema', 'budget')})
    dls.train.set_epoch(0)
    batches = list(dls.train)
    assert_close(*([{k: float(v) for k,v in f(*b).items()} for b in batches] for f in (t.step, ref.optimize)))
    for a, b in ((G, ref.net_G), (D, ref.net_D)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True): torch.testing.assert_close(p, q, atol=1e-5, rtol=0)
