"""Whatever ends a training, `resume` gives the very run that would have been."""
import json, os, shutil, signal, subprocess, sys, time, warnings
from pathlib import Path
import pandas as pd, pytest, torch
from conftest import save_crops
from colorize_fastai import run as room, train as training
from colorize_fastai.adversarial import AdversarialTrainer
from colorize_fastai.callbacks import EMA, SaveRun
from colorize_fastai.train import resume, train
from colorize_fastai.data import colorize_dls
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.run import Run, RunError, Stopped, load_checkpoint
from colorize_fastai.weights import weights_info

# the encoders have BatchNorm (ResNet18's checkpoints are three times as large), the pix2pix U-Net dropout (at test, too, so that validation draws random numbers)
SMALL = dict(name='quick', size=32, bs=2, encoder='test_efficientnet', pretrained=False, n_features=8, valid_pct=.25, device='cpu', verbose=False, progress=False, every=4, minutes=0)
KINDS = dict(
    light=dict(pretrain_epochs=2, adversarial_epochs=2, num_workers=0, head='palette', schedule='flat_cos', pretrain_ema=.9),
    resnet18=dict(encoder='resnet18', pretrain_epochs=1, adversarial_epochs=1, num_workers=0),
    workers=dict(pretrain_epochs=1, adversarial_epochs=2, num_workers=2),
    budget=dict(budget=6, num_workers=2, zoom=2, aged=.5, loss='l1 + 0.1*colors', pixel='chroma_l1'), # a pass and a half of each stage
    dropout=dict(net='pix2pix', pretrain_epochs=1, adversarial_epochs=1, num_workers=0, optimizer='adam', precision='fp32', ema=0))

@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    d = tmp_path_factory.mktemp('photos')
    save_crops(d, 4, photos=3)
    return d

@pytest.fixture
def every_step(monkeypatch): monkeypatch.setattr(Run, 'share', 1e12) # of the time: a checkpoint after every step

def end(out):
    "All that a run has come to: the state after its last step, and its measurements"
    s = load_checkpoint(Run(out).checkpoints()[-1])
    for r in s['rows'] + s['history']: r.pop('seconds')
    for cb in s['callbacks'].values(): cb.pop('seconds', None) # of a budget
    rows = pd.read_csv(out/'metrics.csv', dtype=str).drop(columns='seconds')
    return s, rows.to_csv(), {p.name: weights_info(p)['sha256'] for p in sorted(out.glob('*.safetensors'))}

def differ(a, b, at=''):
    "Where two states differ"
    if isinstance(a, torch.Tensor): return [] if torch.equal(a, b) else [at]
    if isinstance(a, dict): return [at] if a.keys() != b.keys() else sum((differ(a[k], b[k], f'{at}/{k}') for k in a), [])
    if isinstance(a, (list, tuple)): return [at] if len(a) != len(b) else sum((differ(x, y, f'{at}/{i}') for i,(x,y) in enumerate(zip(a, b))), [])
    return [] if a == b or a != a and b != b else [at]

class Crash(BaseException): pass

def crash_at(monkeypatch, n):
    "The `n`-th batch from now on, of whichever stage, ends the process"
    left = iter(range(n, -1, -1))
    def step(f):
        def _f(*args):
            if not next(left): raise Crash
            return f(*args)
        return _f
    monkeypatch.setattr(AdversarialTrainer, 'step', step(AdversarialTrainer.step))
    monkeypatch.setattr(room.Run, 'due', step(room.Run.due))

@pytest.fixture(scope='module')
def whole(photos, tmp_path_factory):
    "The end of each kind of run, uninterrupted"
    done = {}
    def _get(kind):
        if kind not in done:
            out = tmp_path_factory.mktemp(kind)/'run'
            torch.rand(len(done)) # what happened before does not matter
            done[kind] = end(train(photos, out, **{**SMALL, **KINDS[kind]}))
        return done[kind]
    return _get

@pytest.fixture(scope='module')
def small_pix2pix():
    "One of 54 million weights would take minutes to write so often"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(training, 'pix2pix_generator', lambda **kw: pix2pix_generator(n_features=4, levels=4, **kw))
        yield

@pytest.mark.parametrize('kind,steps', [('light', (1, 3, 2)), ('workers', (3, 7)), ('budget', (5, 4)), ('dropout', (2, 9)),
    *[pytest.param(*o, marks=pytest.mark.slow) for o in (('light', (9, 4)), ('dropout', (9, 2)), ('resnet18', (2, 3)))]])
def test_the_very_run(photos, small_pix2pix, whole, tmp_path, monkeypatch, every_step, kind, steps):
    out = tmp_path/'run'
    for i,n in enumerate(steps):
        with monkeypatch.context() as m, pytest.raises(Crash):
            crash_at(m, n)
            torch.rand(i)
            resume(out, progress=False) if i else train(photos, out, **{**SMALL, **KINDS[kind]})
    resume(out, progress=False)
    assert differ(whole(kind), end(out)) == []

def crash(*args):
    res = subprocess.run([sys.executable, Path(__file__).with_name('crash.py'), *map(str, args)], capture_output=True, text=True, timeout=1200,
        env={**os.environ, 'OMP_NUM_THREADS': '1'}) # a process that forks has no threads
    assert res.returncode == 0, res.stderr[-3000:]
    return json.loads(res.stdout)

@pytest.mark.parametrize('epochs,kills', [(5, 5), pytest.param(40, 25, marks=pytest.mark.slow)])
def test_kill_9(photos, tmp_path, epochs, kills):
    done = crash(photos, tmp_path, epochs, kills, 1)
    assert len(done) == kills and {(how, stage) for how in ('writing', 'anywhere') for stage in '12'} == {(how, newest[0]) for how,newest in done}, done
    assert differ(end(tmp_path/'whole'), end(tmp_path/'killed')) == []
    assert not list((tmp_path/'killed').rglob('.*.[0-9]*')) # nothing half written stays

@pytest.fixture
def tiny(monkeypatch):
    "A generator so small that its checkpoints take no time"
    monkeypatch.setattr(training, 'generator_of', lambda cfg: pix2pix_generator(noise_at_test=True, n_features=4, levels=4))

TINY = {**SMALL, **dict(pretrain_epochs=2, adversarial_epochs=2, num_workers=0, pretrain_ema=.9)}

@pytest.fixture(scope='module')
def whole_tiny(photos, tmp_path_factory):
    "Measurements and weights of the uninterrupted run"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(training, 'generator_of', lambda cfg: pix2pix_generator(noise_at_test=True, n_features=4, levels=4))
        return end(train(photos, tmp_path_factory.mktemp('tiny')/'run', **TINY))[1:]

WHERE = {'epoch 1, batch 2': ('forward', 2), 'epoch 2, batch 4': ('forward', 6 + 4 + 1), 'epoch 1': ('log', 1)} # 4 batches of training, 2 of validation

PLACES = [*[(s, w) for s in (1, 2) for w in WHERE], (1, 'stage 1, at its end')]

@pytest.mark.parametrize('stage,where,sig', [pytest.param(*o, sig, marks=[pytest.mark.slow]*(i % 2 != k)) for i,o in enumerate(PLACES) for k,sig in enumerate((signal.SIGINT, signal.SIGTERM))])
def test_signals_save_and_say_how_to_go_on(photos, tmp_path, monkeypatch, tiny, whole_tiny, sig, stage, where):
    "In the midst of an epoch, in its validation, at its end, between the stages; the signal comes twice, as from a launcher that hands it on"
    before = {s: signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)}
    calls, (kind, n) = [0], {**WHERE, 'stage 1, at its end': ('log', 2)}[where]
    n += {'forward': 12, 'log': 2}[kind] if stage == 2 else 0
    def shoot(f):
        def _f(self, *args):
            calls[0] += 1
            if calls[0] == n:
                for _ in range(2): os.kill(os.getpid(), sig)
            return f(self, *args)
        return _f
    with monkeypatch.context() as m, pytest.raises(Stopped, match=f'stopped in {where}, and saved: colorize-train --resume {tmp_path/"run"} '):
        owner = dict(forward=type(training.generator_of({})), log=Run)[kind]
        m.setattr(owner, kind, shoot(getattr(owner, kind)))
        train(photos, tmp_path/'run', **{**TINY, 'every': 1000, 'minutes': 60})
    assert {s: signal.getsignal(s) for s in before} == before
    assert Run(tmp_path/'run').checkpoints()[-1].name[0] == str(stage)
    resume(tmp_path/'run', progress=False)
    assert differ(whole_tiny, end(tmp_path/'run')[1:]) == []

def test_ctrl_c_again_stops_at_once(tmp_path, capsys):
    run = Run(tmp_path/'run')
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGINT): run._ask(sig, None)
    run.asked -= 3 # seconds
    run._ask(signal.SIGTERM, None)
    with pytest.raises(KeyboardInterrupt): run._ask(signal.SIGINT, None)
    assert capsys.readouterr().out.count('stopping after this step') == 1

COMMAND = """
import sys, time
from colorize_fastai import train as training
from colorize_fastai.cli import colorize_train
from colorize_fastai.generator import pix2pix_generator
def net(cfg):
    net = pix2pix_generator(n_features=4, levels=4)
    net.register_forward_hook(lambda *_: time.sleep(.1))
    return net
training.generator_of = net
sys.exit(colorize_train(sys.argv[1:]))
"""

@pytest.mark.parametrize('sig', [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_signal_to_the_whole_group(photos, tmp_path, sig):
    "The workers that read photos hear it, too, as with Ctrl-C in a terminal, or of a cluster"
    args = [photos, '--out', tmp_path/'run', *'--preset quick --size 32 --bs 1 --num-workers 2 --device cpu --pretrain-epochs 500 --adversarial-epochs 1 --checkpoint-minutes 60'.split()]
    p = subprocess.Popen([sys.executable, '-c', COMMAND, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    while not (tmp_path/'run'/'metrics.csv').exists() and p.poll() is None: time.sleep(.05)
    time.sleep(.5)
    os.killpg(p.pid, sig)
    out, err = p.communicate(timeout=60)
    assert p.returncode == 130 and 'and saved' in err and 'Traceback' not in err, (out[-500:], err[-2000:])
    assert load_checkpoint(Run(tmp_path/'run').checkpoints()[-1])['step'] > 9

def cut_off(photos, out, monkeypatch, n=13):
    with monkeypatch.context() as m, pytest.raises(Crash):
        m.setattr(Run, 'share', 1e12)
        crash_at(m, n)
        train(photos, out, **TINY)
    return Run(out)

@pytest.mark.parametrize('harm', ['cut', 'flip', 'empty'])
def test_damaged_newest_is_passed_over(photos, tmp_path, monkeypatch, capsys, tiny, every_step, harm):
    train(photos, tmp_path/'whole', **TINY)
    newest = cut_off(photos, tmp_path/'run', monkeypatch).checkpoints()[-1]
    raw = bytearray(newest.read_bytes())
    if harm == 'flip': raw[len(raw)//2] ^= 4
    newest.write_bytes(raw if harm == 'flip' else raw[:-1000] if harm == 'cut' else b'')
    resume(tmp_path/'run', progress=False)
    out = capsys.readouterr().out
    assert f'{newest.name} is damaged' in out and out.count('going back to the one before') == 1
    assert differ(end(tmp_path/'whole'), end(tmp_path/'run')) == []

def test_disk_full(photos, tmp_path, monkeypatch, tiny, every_step):
    "A file system of 16 MB, and something else that fills it"
    disk = tmp_path/'disk'
    disk.mkdir()
    if subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', disk], capture_output=True).returncode: pytest.skip('no permission to mount a file system')
    try:
        run = cut_off(photos, disk/'run', monkeypatch)
        before = {f.name: f.read_bytes() for f in run.checkpoints()}
        room_left = os.statvfs(disk).f_bavail*os.statvfs(disk).f_frsize
        (disk/'ballast').write_bytes(bytes(room_left - 20_000))
        with pytest.raises(RunError, match='No space left.*make room'): resume(disk/'run', progress=False)
        assert {f.name: f.read_bytes() for f in run.checkpoints()} == before
        assert not [f for f in (disk/'run').rglob('.*') if f.name != '.lock']
        (disk/'ballast').unlink()
        resume(disk/'run', progress=False)
        train(photos, tmp_path/'whole', **TINY)
        assert differ(end(tmp_path/'whole'), end(disk/'run')) == []
    finally: subprocess.run(['umount', '-l', disk], check=True)

def test_one_process_at_a_time(photos, tmp_path, monkeypatch, tiny):
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    held = subprocess.Popen([sys.executable, '-c', f"from filelock import FileLock; l = FileLock({str(run.out/'.lock')!r}); l.acquire(); print('held', flush=True); input()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == 'held\n'
        with pytest.raises(RunError, match='in use by another process'): resume(run.out, progress=False)
    finally: held.communicate('')
    resume(run.out, progress=False)

def test_a_second_one_changes_nothing(photos, tmp_path, monkeypatch, tiny):
    "Before the first checkpoint of a run, another is begun in its place, by another process, with other settings"
    out = tmp_path/'run'
    cut_off(photos, out, monkeypatch, 0)
    def files(): return {f.name: f.read_bytes() for f in out.iterdir() if f.is_file()}
    before = files()
    assert {'config.json', 'split.csv'} <= set(before) and not Run(out).checkpoints()
    held = subprocess.Popen([sys.executable, '-c', f"from filelock import FileLock; l = FileLock({str(out/'.lock')!r}); l.acquire(); print('held', flush=True); input()"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert held.stdout.readline() == 'held\n'
        with pytest.raises(RunError, match='in use by another process'): train(photos, out, **{**TINY, 'seed': 2, 'bs': 4})
    finally: held.communicate('')
    assert files() == before

def test_photos_that_changed(photos, tmp_path, monkeypatch, tiny):
    mine = tmp_path/'photos'
    shutil.copytree(photos, mine)
    run = cut_off(mine, tmp_path/'run', monkeypatch)
    a, b, *_ = sorted(mine.glob('*.png'))
    a.unlink()
    shutil.copy(sorted(mine.glob('*.png'))[-1], b)
    with pytest.raises(RunError, match=f'2 of 12.*{a.name}: missing.*{b.name}: .*bytes then.*--accept-changes'): resume(run.out, progress=False)
    with monkeypatch.context() as m, pytest.raises(Crash): # before the next checkpoint
        crash_at(m, 0)
        resume(run.out, accept=True, progress=False)
    resume(run.out, progress=False) # what was accepted once is not asked for again
    resume(run.out, progress=False)
    moved = tmp_path/'moved'
    shutil.copytree(photos, mine, dirs_exist_ok=True)
    again = cut_off(mine, tmp_path/'again', monkeypatch)
    mine.rename(moved)
    with pytest.raises(RunError, match='12 of 12'): resume(again.out, progress=False)
    resume(again.out, moved, progress=False)

def test_split_that_was_edited(photos, tmp_path, monkeypatch, tiny):
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    f = run.out/'split.csv'
    f.write_text(f.read_text().replace('False', 'True', 1))
    with pytest.raises(RunError, match='has been edited'): resume(run.out, progress=False)

def test_cut_off_between_the_split_and_its_hash(photos, tmp_path, monkeypatch, tiny):
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    noted = run.config['split']
    run.describe(split={**noted, 'sha256': 'of a split that was not written any more', 'before': noted['sha256']})
    resume(run.out, progress=False)
    assert pd.read_csv(run.out/'metrics.csv').stage.tolist() == ['pretrain']*2 + ['adversarial']*2

@pytest.mark.parametrize('harm,says', [(lambda out: (out/'split.csv').unlink(), 'split.csv is missing'), (lambda out: (out/'config.json').write_text(''), 'config.json is damaged')])
def test_files_that_are_gone(photos, tmp_path, monkeypatch, tiny, harm, says):
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    harm(run.out)
    with pytest.raises(RunError, match=says): resume(run.out, progress=False)

def test_no_checkpoint_is_whole(photos, tmp_path, monkeypatch, capsys):
    "All anew, with the weights that a new training would have"
    asked = []
    monkeypatch.setattr(training, 'generator_of', lambda cfg: asked.append(cfg['pretrained']) or pix2pix_generator(n_features=4, levels=4))
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    config = run.config
    config['arguments']['cfg']['pretrained'] = True
    (run.out/'config.json').write_text(json.dumps(config))
    for f in run.checkpoints(): f.write_bytes(b'')
    resume(run.out, progress=False)
    assert asked[-1] is True and 'all begins anew' in capsys.readouterr().out

@pytest.mark.parametrize('n', [2, 13])
def test_another_device(photos, tmp_path, monkeypatch, tiny, n):
    "Colab gives an A100 first and a T4 then, or the other way round: the best precision is another one, and the run goes on"
    from colorize_fastai import machine
    def best(precision): monkeypatch.setattr(machine, 'best_precision', lambda device: precision)
    best('bf16')
    run = cut_off(photos, tmp_path/'run', monkeypatch, n)
    best('fp32')
    resume(run.out, progress=False)
    assert run.config['adversarial']['precision'] == 'auto' and weights_info(run.out)['precision'] == 'fp32'
    with pytest.raises(RunError, match="precision 'auto'"):
        again = cut_off(photos, tmp_path/'again', monkeypatch, n)
        config = again.config
        config['arguments']['cfg']['precision'] = 'bf16'
        (again.out/'config.json').write_text(json.dumps(config))
        resume(again.out, progress=False)

def test_another_rate_or_net_in_stage_1(photos, tmp_path, monkeypatch, every_step):
    from colorize_fastai.callbacks import Checkpoints
    from colorize_fastai.pretrain import colorize_learner
    def fit(lr, resume, n_features=4):
        dls = colorize_dls(photos, size=32, bs=2, valid_pct=.25, num_workers=0, device='cpu', verbose=False)
        learn = colorize_learner(dls, pix2pix_generator(n_features=n_features, levels=4), precision='fp32', metrics=[])
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, lr, cbs=Checkpoints(Run(tmp_path/'run', minutes=0), resume=resume))
    with monkeypatch.context() as m, pytest.raises(Crash):
        crash_at(m, 3)
        fit(1e-3, False)
    before = (tmp_path/'run'/'config.json').read_bytes()
    with pytest.raises(RunError, match='was begun with rates'): fit(.5, True)
    with pytest.raises(RunError, match='was begun with another net'): fit(1e-3, True, n_features=6)
    assert (tmp_path/'run'/'config.json').read_bytes() == before
    fit(1e-3, True)

def test_with_a_progress_bar(photos, tmp_path, monkeypatch, tiny):
    "Resumed after the first epoch of stage 1, where somebody watches"
    run = cut_off(photos, tmp_path/'run', monkeypatch, 6)
    assert load_checkpoint(run.checkpoints()[-1])['epoch'] == 1
    resume(run.out, progress=True)

def test_nothing_there(tmp_path):
    with pytest.raises(RunError, match='holds no training'): resume(tmp_path)

def test_begun_is_not_begun_anew(photos, tmp_path, monkeypatch, tiny):
    run = cut_off(photos, tmp_path/'run', monkeypatch)
    with pytest.raises(ValueError, match='--resume'): train(photos, run.out, **TINY)

def test_trainer_of_ones_own(photos, tmp_path, every_step, monkeypatch):
    "In a notebook: the same three lines again, with resume=True"
    def trainer(out, lr=2e-4):
        dls = colorize_dls(photos, size=32, bs=2, valid_pct=.25, num_workers=0, device='cpu', verbose=False)
        torch.manual_seed(0)
        return AdversarialTrainer(pix2pix_generator(noise_at_test=True, n_features=4, levels=4), PatchDiscriminator(16, n_features=8), dls, lr=lr, precision='fp32', cbs=[EMA(.9), SaveRun(out)])
    whole = trainer(tmp_path/'whole')
    whole.fit(3, progress=False)
    with monkeypatch.context() as m, pytest.raises(Crash):
        crash_at(m, 9)
        trainer(tmp_path/'run').fit(3, progress=False)
    with pytest.raises(RunError, match='was begun with lr 0.0002'): trainer(tmp_path/'run', lr=1e-3).fit(3, progress=False, resume=True)
    with pytest.raises(RunError, match='resume it'): trainer(tmp_path/'run').fit(3, progress=False)
    again = trainer(tmp_path/'run')
    again.fit(3, progress=False, resume=True)
    for a,b in zip(whole.generator.state_dict().values(), again.generator.state_dict().values(), strict=True): assert torch.equal(a, b)
    assert differ(end(tmp_path/'whole')[1:], end(tmp_path/'run')[1:]) == []

def test_saving_and_sampling_change_nothing(photos, tmp_path, monkeypatch, tiny):
    "A checkpoint and a sample grid after every step, or none at all"
    saved = []
    with monkeypatch.context() as m:
        m.setattr(Run, 'share', 1e12)
        m.setattr(Run, 'save', lambda self, *args, f=Run.save: saved.append(args[:2]) or f(self, *args))
        train(photos, tmp_path/'often', **{**TINY, 'every': 1, 'minutes': 0})
    assert len({*saved}) == 16 # steps
    train(photos, tmp_path/'never', **{**TINY, 'every': 10**6, 'minutes': 10**6})
    assert differ(end(tmp_path/'often')[1:], end(tmp_path/'never')[1:]) == []
    assert len(list((tmp_path/'often'/'samples').iterdir())) > len(list((tmp_path/'never').glob('samples/*')))

def test_more_epochs_than_were_planned(photos, tmp_path, tiny):
    dls = colorize_dls(photos, size=32, bs=2, valid_pct=.25, num_workers=0, device='cpu', verbose=False)
    def trainer(out):
        torch.manual_seed(0)
        return AdversarialTrainer(training.generator_of({}), PatchDiscriminator(16, n_features=8), dls, precision='fp32', cbs=[EMA(.9), SaveRun(out)])
    trainer(tmp_path/'whole').fit(3, progress=False)
    trainer(tmp_path/'run').fit(2, progress=False)
    assert len(trainer(tmp_path/'run').fit(3, progress=False, resume=True)) == 3
    assert differ(end(tmp_path/'whole')[1:], end(tmp_path/'run')[1:]) == []
    on = trainer(tmp_path/'on')
    on.fit(1, progress=False)
    assert on.fit(1, progress=False).epoch.tolist() == [1, 2] # no resume: the trainer goes on from its average
    assert pd.read_csv(tmp_path/'on'/'metrics.csv').epoch.tolist() == [1, 2]

def test_both_stages_of_ones_own(photos, tmp_path, every_step, monkeypatch):
    "In a notebook, cut off in stage 2: all lines once more, and stage 1 has nothing left to do"
    from colorize_fastai.callbacks import Checkpoints
    from colorize_fastai.pretrain import colorize_learner
    def lines(out, resume):
        dls = colorize_dls(photos, size=32, bs=2, valid_pct=.25, num_workers=0, device='cpu', verbose=False)
        torch.manual_seed(0)
        learn = colorize_learner(dls, pix2pix_generator(noise_at_test=True, n_features=4, levels=4), precision='fp32')
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(2, 1e-3, cbs=Checkpoints(out, resume=resume))
        AdversarialTrainer(learn.model, PatchDiscriminator(16, n_features=8), dls, precision='fp32', cbs=[EMA(.9), SaveRun(Run(out, minutes=0))]).fit(2, progress=False, resume=resume)
    lines(tmp_path/'whole', False)
    with monkeypatch.context() as m, pytest.raises(Crash):
        crash_at(m, 8 + 1 + 9)
        lines(tmp_path/'run', False)
    assert Run(tmp_path/'run').checkpoints('adversarial') and len(Run(tmp_path/'run').checkpoints('pretrain')) == 1
    before = pd.read_csv(tmp_path/'run'/'metrics.csv')
    lines(tmp_path/'run', True)
    assert before.seconds.tolist()[:2] == pd.read_csv(tmp_path/'run'/'metrics.csv').seconds.tolist()[:2]
    assert differ(end(tmp_path/'whole')[1:], end(tmp_path/'run')[1:]) == []

@pytest.mark.parametrize('kind', ['list', 'frame'])
def test_sources_that_are_no_folder(photos, tmp_path, monkeypatch, tiny, kind):
    "Begun with a list or a DataFrame, in one working folder, and resumed in another"
    files = sorted(photos.glob('*.png'))
    monkeypatch.chdir(photos)
    source = [f.name for f in files] if kind == 'list' else pd.DataFrame(dict(file=[f.name for f in files], is_valid=[i % 4 == 0 for i in range(len(files))]))
    train(source, tmp_path/'whole', **TINY)
    with monkeypatch.context() as m, pytest.raises(Crash):
        m.setattr(Run, 'share', 1e12)
        crash_at(m, 13)
        train(source, tmp_path/'run', **TINY)
    monkeypatch.chdir(tmp_path)
    resume('run', progress=False)
    assert differ(end(tmp_path/'whole')[1:], end(tmp_path/'run')[1:]) == []
    assert pd.read_csv(tmp_path/'run'/'split.csv').is_valid.sum() == 3

def test_split_of_ones_own(photos, tmp_path, monkeypatch, tiny):
    "A split that came from a file is the run's own from its first moment, and the file may go"
    train(photos, tmp_path/'first', **{**TINY, 'pretrain_epochs': 1, 'adversarial_epochs': 0, 'seed': 5})
    mine = tmp_path/'mine.csv'
    shutil.copy(tmp_path/'first'/'split.csv', mine)
    with monkeypatch.context() as m, pytest.raises(Crash):
        crash_at(m, 0)
        train(photos, tmp_path/'run', split=mine, **TINY)
    mine.unlink()
    resume(tmp_path/'run', progress=False)
    assert (tmp_path/'run'/'split.csv').read_text() == (tmp_path/'first'/'split.csv').read_text()

def test_file_system_without_locks(photos, tmp_path, monkeypatch, tiny):
    "As on some network drives"
    import errno, fcntl
    def flock(*_): raise OSError(number, 'no locks here')
    for number in (errno.ENOSYS, errno.ENOTSUP):
        with monkeypatch.context() as m, warnings.catch_warnings():
            warnings.simplefilter('ignore')
            m.setattr(fcntl, 'flock', flock)
            train(photos, tmp_path/str(number), **TINY)
    assert load_checkpoint(Run(tmp_path/str(errno.ENOTSUP)).checkpoints()[-1])

def test_photos_from_the_web(photos, tmp_path, monkeypatch, tiny):
    "COCO's sample, say: on another machine they are downloaded anew, into another folder"
    from colorize_fastai import data
    monkeypatch.setattr(data, 'untar_data', lambda url: photos)
    with monkeypatch.context() as m, pytest.raises(Crash):
        crash_at(m, 13)
        train('https://example.org/photos.tgz', tmp_path/'run', **TINY)
    elsewhere = shutil.copytree(photos, tmp_path/'elsewhere')
    monkeypatch.setattr(data, 'untar_data', lambda url: elsewhere)
    for source in (None, 'https://example.org/photos.tgz'): resume(tmp_path/'run', source, progress=False)
    begun = Run(tmp_path/'run').config['arguments']
    assert (begun['source'], begun['root']) == ('https://example.org/photos.tgz', str(elsewhere))

def test_signal_while_printing(tmp_path, monkeypatch):
    "Python refuses to print in the midst of printing; the signal counts all the same"
    def reentrant(*args, **kwargs): raise RuntimeError("reentrant call inside <_io.BufferedWriter name='<stdout>'>")
    run = Run(tmp_path/'run')
    monkeypatch.setattr('builtins.print', reentrant)
    run._ask(signal.SIGTERM, None)
    assert run.wanted() == (True, True)
