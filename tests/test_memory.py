"""When memory runs out: the message names a batch that fits, 'auto' finds it, and parts of a batch are the batch."""
import os, subprocess, sys
import pytest, torch
from conftest import save_crops
from colorize_fastai import train as training
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.callbacks import EMA
from colorize_fastai.train import train
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.machine import OutOfMemory
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.run import Run, load_checkpoint

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    save_crops(d, 4)
    return d

@pytest.fixture
def dls(photos): return colorize_dls(photos, size=32, bs=12, valid_pct=.2, num_workers=0, device='cpu', verbose=False)

def small(room=5):
    "A net with memory for `room` photos, when it learns"
    torch.manual_seed(0)
    net = pix2pix_generator(norm='instance', n_features=4, levels=4)
    for m in net.modules():
        if isinstance(m, torch.nn.Dropout): m.p = 0.
    net.seen = []
    def look(m, args):
        if torch.is_grad_enabled() and len(args[0]) > room: raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 4 GiB')
        if m.training: m.seen.append(len(args[0]))
    net.register_forward_pre_hook(look)
    return net

def weights(net): return [v.clone() for v in net.state_dict().values()]
def quiet(learn, n=1):
    with learn.no_bar(), learn.no_logging(): learn.fit(n, 1e-4)

def test_stage_1_says_what_fits(dls):
    net = small()
    before = weights(net)
    with pytest.raises(OutOfMemory, match='no memory for 12 photos of 32 pixels at a time; 4 at a time fit: give --micro-bs 4 .*of 12 are added up, or --bs 4'): # 5 fit: 5 + 5 + 2, or 4 + 4 + 4
        quiet(colorize_learner(dls, net, precision='fp32', metrics=[]))
    assert all(map(torch.equal, before, weights(net))) and all(p.grad is None for p in net.parameters())

def test_stage_2_says_what_fits(dls):
    net, D = small(), PatchDiscriminator(16, n_features=8)
    t = AdversarialTrainer(net, D, dls, precision='fp32', cbs=[EMA(.9)])
    before = weights(net) + weights(D)
    with pytest.raises(OutOfMemory, match='4 at a time fit'): t.fit(1, progress=False)
    assert all(map(torch.equal, before, weights(net) + weights(D))) and t.g_opt.state == {}

@pytest.mark.parametrize('stage', [1, 2])
def test_not_even_one(dls, stage):
    with pytest.raises(OutOfMemory, match='not even one fits: give a smaller size'):
        if stage == 1: quiet(colorize_learner(dls, small(0), precision='fp32', metrics=[]))
        else: AdversarialTrainer(small(0), PatchDiscriminator(16, n_features=8), dls, precision='fp32').fit(1, progress=False)

@pytest.mark.parametrize('wrong,kind', [(lambda *_: 1/0, ZeroDivisionError), (lambda *_: torch.zeros(2) @ torch.zeros(3), RuntimeError)])
def test_other_errors_are_themselves(dls, wrong, kind):
    net = small(99)
    net.register_forward_pre_hook(wrong)
    with pytest.raises(kind) as e: quiet(colorize_learner(dls, net, precision='fp32', metrics=[]))
    assert not isinstance(e.value, OutOfMemory)

def test_auto_is_the_whole_batch(dls):
    "A batch in parts that fit, and a batch that fits: the same steps of both stages, but for rounding"
    done = []
    for room, micro_bs in ((12, None), (5, 'auto')):
        net = small(room)
        learn = colorize_learner(dls, net, precision='fp32', micro_bs=micro_bs)
        dls.train.set_epoch(0)
        quiet(learn, 3)
        torch.manual_seed(1)
        t = AdversarialTrainer(net, PatchDiscriminator(16, norm='instance', n_features=8), dls, precision='fp32', micro_bs=micro_bs, lr=1e-4)
        t.fit(3, progress=False)
        assert learn.micro_bs == t.micro_bs == (None if micro_bs is None else 4)
        assert max(net.seen) == (12 if micro_bs is None else 5)
        done.append(torch.tensor([learn.recorder.values[-1] + [v for k,v in t.rows[-1].items() if k != 'seconds']]))
    assert ((done[0] - done[1])/done[0]).abs().max() < 1e-3, done

def test_statistics_of_trials_leave_no_trace(photos, tmp_path, monkeypatch):
    "BatchNorm, dropout: a training with micro_bs='auto' where all fits is the training without"
    monkeypatch.setattr(training, 'generator_of', lambda cfg: pix2pix_generator(noise_at_test=True, n_features=4, levels=4))
    kw = dict(name='quick', size=32, bs=4, pretrain_epochs=2, adversarial_epochs=2, n_features=8, valid_pct=.25, num_workers=0, device='cpu', verbose=False, progress=False, precision='fp32')
    ends = []
    for name, more in (('plain', {}), ('auto', dict(micro_bs='auto'))):
        train(photos, tmp_path/name, **{**kw, **more})
        ends.append(load_checkpoint(Run(tmp_path/name).checkpoints()[-1]))
    assert all(torch.equal(a, b) for k in ('generator', 'discriminator') for a,b in zip(ends[0][k].values(), ends[1][k].values(), strict=True))
    assert [e['micro_bs'] for e in ends] == [None, 4]

def test_the_command(photos, tmp_path, monkeypatch, capsys):
    "--bs auto; a resumed training keeps its parts, and takes smaller ones if it is told to"
    from colorize_fastai.cli import colorize_train
    monkeypatch.setattr(training, 'generator_of', lambda cfg: small(9))
    args = [str(photos), '--out', str(tmp_path/'run'), *'--preset quick --size 32 --num-workers 0 --device cpu --pretrain-epochs 1 --adversarial-epochs 1 --precision fp32 --valid-pct .2'.split()]
    assert colorize_train([*args, '--bs', '12']) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and 'no memory for 12 photos' in err[0] and '--micro-bs 6' in err[0]
    assert colorize_train(['--resume', str(tmp_path/'run'), '--micro-bs', '5', '--checkpoint-minutes', '30']) == 0
    assert Run(tmp_path/'run').config['arguments']['minutes'] == 30
    assert load_checkpoint(Run(tmp_path/'run').checkpoints()[-1])['micro_bs'] == 5
    assert colorize_train([*args[:2], str(tmp_path/'auto'), *args[3:], '--bs', 'auto']) == 0 # the preset's 32: the 13 photos
    assert load_checkpoint(Run(tmp_path/'auto').checkpoints()[-1])['micro_bs'] == 7
    assert colorize_train([*args[:2], str(tmp_path/'no'), *args[3:], '--micro-bs', '0']) == 2
    with pytest.raises(SystemExit): colorize_train([*args, '--bs', 'many'])
    assert "'many' is neither a number of photos nor auto" in capsys.readouterr().err

REAL = """
import resource, sys, json, torch
from colorize_fastai.data import colorize_dls
from colorize_fastai.generator import unet_generator
from colorize_fastai.machine import OutOfMemory
from colorize_fastai.pretrain import colorize_learner
dls = colorize_dls(sys.argv[1], size=256, bs=20, load_size=256, valid_pct=0, num_workers=0, device='cpu', verbose=False)
net = unet_generator('resnet18', pretrained=False)
micro_bs = None
for i in range(2):
    learn = colorize_learner(dls, net, precision='fp32', metrics=[], micro_bs=micro_bs)
    if i == 0:
        dls.train.one_batch(), torch.nn.Conv2d(1, 1, 3)(torch.zeros(1, 1, 8, 8)).sum().backward() # all libraries are loaded
        now = int(next(l for l in open('/proc/self/status') if l.startswith('VmSize')).split()[1])*1024
        resource.setrlimit(resource.RLIMIT_AS, (now + 700*2**20,)*2)
    try:
        with learn.no_bar(), learn.no_logging(): learn.fit(1)
        print('fits', flush=True)
    except OutOfMemory as e:
        print(e, flush=True)
        micro_bs = int(str(e).split('; ')[1].split()[0])
"""

def test_an_engine_that_does_not_recover(dls):
    "oneDNN, after memory ran out while it compiled: nothing fits any more, and that says nothing of the size"
    net = small(99)
    def broken(m, args):
        if torch.is_grad_enabled(): raise RuntimeError('could not create a primitive')
    net.register_forward_pre_hook(broken)
    with pytest.raises(OutOfMemory, match='begin a new one, with a smaller --micro-bs'): quiet(colorize_learner(dls, net, precision='fp32', metrics=[]))

def test_auto_is_found_anew(photos, tmp_path, monkeypatch):
    "Resumed where there is less memory, with 'auto' given again"
    class Crash(BaseException): pass
    def crash(*_): raise Crash
    room = [12]
    monkeypatch.setattr(training, 'generator_of', lambda cfg: small(room[0]))
    monkeypatch.setattr(Run, 'share', 1e12)
    kw = dict(name='quick', size=32, bs=12, pretrain_epochs=3, adversarial_epochs=0, valid_pct=.2, num_workers=0, device='cpu', verbose=False, progress=False, precision='fp32', minutes=0)
    with monkeypatch.context() as m, pytest.raises(Crash):
        m.setattr(Run, 'log', crash)
        train(photos, tmp_path/'run', micro_bs='auto', **kw)
    assert load_checkpoint(Run(tmp_path/'run').checkpoints()[-1])['micro_bs'] == 12
    room[0] = 5
    with pytest.raises(OutOfMemory, match='4 at a time fit'): training.resume(tmp_path/'run', progress=False)
    training.resume(tmp_path/'run', progress=False, micro_bs='auto')
    assert load_checkpoint(Run(tmp_path/'run').checkpoints()[-1])['micro_bs'] == 4

@pytest.mark.slow
def test_real_shortage(tmp_path):
    "A process that may have 700 MB more: the batch of 20 does not fit, and what the message names does"
    save_crops(tmp_path, 4, size=None, photos=5, suffix='.jpg')
    for _ in range(4): # where the shortage strikes while oneDNN compiles, it does not recover, and we say so
        res = subprocess.run([sys.executable, '-c', REAL, tmp_path], capture_output=True, text=True, timeout=300, env={**os.environ, 'OMP_NUM_THREADS': '2', 'MALLOC_MMAP_THRESHOLD_': '65536'}) # what is free counts as free
        out = res.stdout.strip().splitlines()
        if 'begin a new one, with a smaller --micro-bs' not in res.stdout: break
    assert res.returncode == 0 and len(out) == 2, (res.stdout, res.stderr[-2000:])
    assert out[0].startswith('no memory for 20 photos of 256 pixels at a time; ') and 'at a time fit' in out[0] and out[1] == 'fits'

@pytest.mark.parametrize('precision', ['fp32', 'bf16'])
@pytest.mark.parametrize('stage', [1, 2])
def test_trials_are_in_the_precision_of_the_training(dls, stage, precision):
    net, seen = small(5), []
    net.down[0][0].register_forward_hook(lambda m, i, o: seen.append(o.dtype))
    if stage == 1: quiet(colorize_learner(dls, net, precision=precision, metrics=[], micro_bs='auto'))
    else: AdversarialTrainer(net, PatchDiscriminator(16, n_features=8), dls, precision=precision, micro_bs='auto').fit(1, progress=False)
    assert set(seen) == {dict(fp32=torch.float32, bf16=torch.bfloat16)[precision]}
