"""What GANs are known for is noticed, said in words, and stopped at the last good state. Each is provoked."""
import pytest, torch
from accelerate.optimizer import AcceleratedOptimizer
from torch.amp import GradScaler
from colorize_fastai import adversarial
from colorize_fastai.adversarial import EMA, AdversarialTrainer, Guard, SaveRun, train
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.photo import read_rgb, sample_photos
from colorize_fastai.pretrain import Checkpoints, colorize_learner
from colorize_fastai.run import Diverged, Run

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    for k,f in list(sample_photos().items())[:3]:
        for j in range(4): read_rgb(f).crop((20*j, 0, 20*j+160, 160)).resize((40, 40)).save(d/f'{k}{j}.png')
    return colorize_dls(d, size=32, bs=2, valid_pct=.25, num_workers=0, device='cpu', verbose=False)

@pytest.fixture
def trainer(dls, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'share', 1e12)
    def _make(*cbs, **kwargs):
        torch.manual_seed(0)
        return AdversarialTrainer(pix2pix_generator(n_features=4, levels=4), PatchDiscriminator(16, n_features=8), dls, precision='fp32',
                                  cbs=[EMA(.9), *cbs, SaveRun(Run(tmp_path/'run', minutes=0))], **kwargs)
    return _make

def weights(t): return [v.clone() for net in (t.generator, t.discriminator) for v in net.state_dict().values()]

class Harm:
    "Does something to the trainer after step `at`, and remembers both nets of just before"
    def __init__(self, at, do): self.at, self.do = at, do
    def after_step(self, t):
        if t.steps == self.at: self.do(t)

def poison(t):
    with torch.no_grad(): next(t.generator.parameters()).fill_(float('nan'))

def good(t, tmp_path):
    "Both nets are whole, and so is every checkpoint"
    assert all(v.isfinite().all() for v in weights(t))
    for f in Run(tmp_path/'run').checkpoints(): assert adversarial.all_finite(Run(tmp_path/'run').latest())

def test_no_numbers(trainer, tmp_path):
    t = trainer(Guard(every=1), Harm(6, poison))
    with pytest.raises(Diverged, match='no numbers? any more.*lower lr.*back at step 5, which'): t.fit(3, progress=False)
    assert t.steps == 5 and len(t.rows) == 1
    good(t, tmp_path)

def test_no_numbers_without_a_run(trainer):
    t = trainer(Guard(every=1))
    t.cbs = [cb for cb in t.cbs if not isinstance(cb, SaveRun)] + [Harm(2, poison)]
    with pytest.raises(Diverged, match='no number any more'): t.fit(1, progress=False)

def test_rate_far_too_high(trainer, tmp_path):
    t = trainer(Guard(), lr=1e30)
    with pytest.raises(Diverged, match='no numbers any more'): t.fit(3, progress=False)

def test_scaler_that_skips(trainer, tmp_path):
    t = trainer(Guard(looks=1), lambda_l1=1e38)
    t.acc.scaler = scaler = GradScaler('cpu')
    for k in ('g_opt', 'd_opt'): setattr(t, k, AcceleratedOptimizer(getattr(t, k).optimizer, scaler=scaler))
    try:
        with pytest.raises(Diverged, match='scaler has skipped 10 steps in a row.*fp32'): t.fit(5, progress=False)
    finally: t.acc.scaler = None
    good(t, tmp_path)

def test_discriminator_that_won(trainer):
    t = trainer(Guard(every=1, grey=0))
    t.g_opt.param_groups[0]['lr'] = 0.
    t.d_opt.param_groups[0]['lr'] = 1e-2
    with pytest.raises(Diverged, match='discriminator has won: its loss was under 0.02 at 3 looks in a row.*both nets are back at step'): t.fit(60, progress=False)
    assert t.rows[-1]['d'] < .6

def grey(t):
    with torch.no_grad():
        for v in list(t.generator.parameters())[-2:]: v.zero_()
    t.g_opt.param_groups[0]['lr'] = 0.

def test_grey_from_the_beginning(trainer, tmp_path):
    t = trainer(Guard(every=1))
    grey(t)
    with pytest.raises(Diverged, match='gone grey: its validation pictures have 0.0% of the colorfulness'): t.fit(9, progress=False)
    assert len(t.rows) == 4 # 20 steps
    good(t, tmp_path)

def test_gone_grey(trainer, tmp_path):
    t = trainer(Guard(), Harm(24, grey), lr=5e-3)
    t.cbs = [cb for cb in t.cbs if not isinstance(cb, EMA)] # it would remember the colors for a while
    with pytest.raises(Diverged, match='gone grey'): t.fit(9, progress=False)
    assert t.rows[-1]['color_ratio'] > .09 and t.steps >= 20

def test_a_healthy_one_is_left_alone(trainer):
    assert len(trainer(Guard(every=1)).fit(3, progress=False)) == 3

def test_stage_1(dls, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'share', 1e12)
    torch.manual_seed(0)
    learn = colorize_learner(dls, pix2pix_generator(n_features=4, levels=4), metrics=[], precision='fp32', cbs=Checkpoints(Run(tmp_path/'run', minutes=0)))
    with learn.no_bar(), learn.no_logging(), pytest.raises(Diverged, match='by step [0-9]+: lower lr.*the net is back at step'): learn.fit(5, 1e30)
    assert all(v.isfinite().all() for v in learn.model.state_dict().values())

def test_said_in_one_line(dls, tmp_path, capsys):
    from colorize_fastai.cli import colorize_train
    assert colorize_train([str(dls.root), '--out', str(tmp_path/'run'), *'--preset quick --scratch --size 32 --bs 2 --num-workers 0 --device cpu --pretrain-epochs 0 --adversarial-epochs 3 --adversarial-lr 1e30'.split()]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and 'no numbers any more' in err[0]
