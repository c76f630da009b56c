"""What GANs are known for is noticed, said in words, and stopped at the last good state. Each is provoked."""
from types import SimpleNamespace
import pytest, torch
from accelerate.optimizer import AcceleratedOptimizer
from fastai.callback.core import Callback
from torch.amp import GradScaler
from conftest import save_crops
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.callbacks import EMA, Guard, SaveRun
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.callbacks import Checkpoints
from colorize_fastai.pretrain import DevicePrecision, colorize_learner
from colorize_fastai.train import pretrain
from colorize_fastai.machine import Diverged, all_finite
from colorize_fastai.run import Run, RunError, load_checkpoint

@pytest.fixture(scope='module')
def dls(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    save_crops(d, 4, photos=3)
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
    files = Run(tmp_path/'run').checkpoints()
    assert files and all(all_finite(load_checkpoint(f)) for f in files)

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
    seen = []
    t.cbs.insert(0, SimpleNamespace(after_step=lambda t: seen.append(t.last['d'].item())))
    with pytest.raises(Diverged, match='discriminator has won: its loss was under 0.02 at 3 looks in a row.*both nets are back at step'): t.fit(60, progress=False)
    assert max(seen[-3:]) < .02 <= seen[t.steps-1] and t.steps == len(seen) - 3

def grey(t):
    with torch.no_grad():
        for v in list(t.generator.parameters())[-2:]: v.zero_()
    t.g_opt.param_groups[0]['lr'] = 0.

def test_grey_from_the_beginning(trainer, tmp_path):
    t = trainer(Guard(every=1))
    grey(t)
    with pytest.raises(Diverged, match='gone grey: its validation pictures have 0.0% of the colorfulness.*no checkpoint from before'): t.fit(9, progress=False)
    assert len(t.rows) == 5 # 20 steps
    good(t, tmp_path)

def test_gone_grey(trainer, tmp_path, dls):
    def make():
        t = trainer(Guard(every=1), lr=5e-3)
        t.cbs = [cb for cb in t.cbs if not isinstance(cb, EMA)] # it would remember the colors for a while
        return t
    t, n = make(), len(dls.train)
    t.cbs.insert(1, Harm(5*n + n//2, grey))
    with pytest.raises(Diverged, match=f'gone grey.*both nets are back at step {5*n}'): t.fit(9, progress=False)
    def colorful(t): return t.validate()['color_ratio'] > .09
    assert t.rows[-1]['color_ratio'] > .09 and t.steps == 5*n and colorful(t)
    assert [f.suffix for f in sorted((tmp_path/'run'/'checkpoints').glob('2-*'))] == ['.ckpt'] + ['.diverged']*2
    again = make() # and from there, it goes on
    again.fit(7, progress=False, resume=True)
    assert again.epoch == 7 and colorful(again)

def test_counts_go_on(trainer, tmp_path):
    "What the guard has seen before a disconnect counts after it"
    t = trainer(Guard(every=1))
    t.fit(1, progress=False)
    guard = t.cbs[1]
    guard.lost, guard.well, guard.skipped = 2, 3, 7
    t.cbs[-1].run.open(); t.cbs[-1].save(t); t.cbs[-1].run.close()
    again = trainer(Guard(every=1))
    again.fit(1, progress=False, resume=True)
    assert (again.cbs[1].lost, again.cbs[1].well, again.cbs[1].skipped) == (2, 3, 7)
    other = trainer() # without the guard
    with pytest.raises(RunError, match=r"callbacks \['EMA', 'Guard'\] \(now \['EMA'\]\)"): other.fit(1, progress=False, resume=True)

def test_weights_of_the_last_step(trainer, tmp_path, dls):
    "NaN that the last step of an epoch leaves is seen before anything is saved"
    t = trainer(Guard(), Harm(2*len(dls.train), poison))
    t.cbs[-1].run.minutes = 60
    with pytest.raises(Diverged, match='no numbers any more.*back at step'): t.fit(3, progress=False)
    good(t, tmp_path)

def test_a_healthy_one_is_left_alone(trainer):
    assert len(trainer(Guard(every=1)).fit(3, progress=False)) == 3

def test_stage_1(dls, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'share', 1e12)
    torch.manual_seed(0)
    learn = colorize_learner(dls, pix2pix_generator(n_features=4, levels=4), metrics=[], precision='fp32', cbs=Checkpoints(Run(tmp_path/'run', minutes=0)))
    with learn.no_bar(), learn.no_logging(), pytest.raises(Diverged, match='by step [0-9]+: lower lr.*the net is back at step'): learn.fit(5, 1e30)
    assert all(v.isfinite().all() for v in learn.model.state_dict().values())

@pytest.mark.parametrize('minutes', [0, 60])
def test_stage_1_as_the_command_runs_it(dls, tmp_path, minutes):
    torch.manual_seed(0)
    with pytest.raises(Diverged, match='^the loss is no number any more, by step [0-9]+: lower lr'):
        pretrain(dls, Run(tmp_path/'run', minutes=minutes), epochs=5, lr=1e30, generator=pix2pix_generator(n_features=4, levels=4), precision='fp32', progress=False)

def test_stage_1_gone_grey(dls, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'share', 1e12)
    class GoGrey(Callback):
        def before_validate(self):
            if self.epoch == 4:
                with torch.no_grad():
                    for v in list(self.model.parameters())[-2:]: v.zero_()
    torch.manual_seed(0)
    net = pix2pix_generator(n_features=4, levels=4)
    with pytest.raises(Diverged, match=f'^the net has gone grey, by step {5*len(dls.train)}: lower lr.*back at step {4*len(dls.train)}'):
        pretrain(dls, Run(tmp_path/'run', minutes=0), epochs=9, lr=5e-3, schedule='flat', generator=net, precision='fp32', progress=False, cbs=GoGrey())

def test_stage_1_scaler_that_skips(dls, tmp_path):
    class Fp16(DevicePrecision): # fp16's scaler; what it multiplies is in float32
        def before_fit(self):
            super().before_fit()
            self.learn.scaler = GradScaler('cpu')
    class Overflow(Callback):
        order = 11
        def after_backward(self): next(self.model.parameters()).grad.fill_(float('inf'))
    learn = colorize_learner(dls, pix2pix_generator(n_features=4, levels=4), metrics=[], precision='fp32', cbs=[Fp16('bf16'), Overflow(), Checkpoints(tmp_path/'run')])
    with learn.no_bar(), learn.no_logging(), pytest.raises(Diverged, match='scaler has skipped 30 steps in a row.*fp32'): learn.fit(20, 1e-3)

def test_said_in_one_line(dls, tmp_path, capsys):
    from colorize_fastai.cli import colorize_train
    assert colorize_train([str(dls.root), '--out', str(tmp_path/'run'), *'--preset quick --scratch --size 32 --bs 2 --num-workers 0 --device cpu --pretrain-epochs 0 --adversarial-epochs 3 --adversarial-lr 1e30'.split()]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and 'no numbers any more' in err[0]
