"""What a training shows in TensorBoard and in Weights & Biases."""
import json, time
import numpy as np, pandas as pd, pytest
from conftest import save_crops
from colorize_fastai import run as room, trackers, train as training
from colorize_fastai.train import resume, train
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.trackers import TrackPretrain
from test_resume import Crash, crash_at, differ, end

@pytest.fixture
def photos(tmp_path):
    d = tmp_path/'photos'
    d.mkdir()
    save_crops(d, 4)
    return d

@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(training, 'generator_of', lambda cfg: pix2pix_generator(n_features=4, levels=4))
    monkeypatch.setattr(room.Run, 'share', 1e12)
    monkeypatch.setattr(trackers.Feed.__init__, '__defaults__', (2, 3)) # every second step, 3 photos

KW = dict(name='quick', size=32, bs=2, pretrain_epochs=2, adversarial_epochs=2, n_features=8, ema=.9, valid_pct=.25, num_workers=0, device='cpu', verbose=False, progress=False, minutes=0)

def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    acc = EventAccumulator(str(folder), size_guidance=dict(images=0, scalars=0))
    acc.Reload()
    return {k: [(e.step, e.value) for e in acc.Scalars(k)] for k in acc.Tags()['scalars']}, {k: acc.Images(k) for k in acc.Tags()['images']}

def test_tensorboard(photos, tmp_path, monkeypatch):
    "Both stages: losses, rates, measurements, pictures; a training that was cut off and resumed shows the curves of one that was not"
    from PIL import Image
    from io import BytesIO
    train(photos, tmp_path/'whole', track=['tensorboard'], **KW)
    for i,n in enumerate((9, 13, 9)):
        with monkeypatch.context() as m, pytest.raises(Crash):
            crash_at(m, n)
            resume(tmp_path/'run', progress=False) if i else train(photos, tmp_path/'run', track=['tensorboard'], **KW)
    resume(tmp_path/'run', progress=False)
    assert differ(end(tmp_path/'whole'), end(tmp_path/'run')) == []
    log = pd.read_csv(tmp_path/'run'/'metrics.csv')
    for stage, tags in (('pretrain', {'loss', 'lr', 'train_loss', 'valid_loss'}), ('adversarial', {'d', 'gan', 'l1', 'g_lr', 'd_lr', 'valid_l1'})):
        (whole, _), (curves, pictures) = (events(tmp_path/name/'tensorboard'/stage) for name in ('whole', 'run'))
        assert set(curves) == tags | {'psnr', 'ssim', 'delta_e', 'color_ratio'} and curves == whole
        assert [s for s,_ in curves['lr' if stage == 'pretrain' else 'g_lr']] == [2, 4, 6, 8, 10, 12]
        assert [v for _,v in curves['psnr']] == pytest.approx(log[log.stage == stage].psnr.tolist(), rel=1e-6)
        assert [e.step for e in pictures['photos']] == [6, 12]
        pixels = np.asarray(Image.open(BytesIO(pictures['photos'][0].encoded_image_string)).convert('RGB')).astype(int)
        assert pixels.shape[1] > 300 and (pixels.max(-1) - pixels.min(-1)).max() > 60 # the true photos are in color

def test_what_was_shown_is_written(tmp_path):
    "At once, and not when a process ends that may be killed"
    tracker = trackers.TensorBoard(room.Run(tmp_path), 'pretrain', 0)
    for step in (1, 2):
        tracker.log(dict(loss=step/4), step)
        assert events(tmp_path/'tensorboard'/'pretrain')[0]['loss'] == [(i, i/4) for i in range(1, step + 1)]
    tracker.close()

def test_wandb_offline(photos, tmp_path, monkeypatch):
    "It writes, and sends nothing"
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    monkeypatch.setenv('WANDB_DIR', str(tmp_path))
    train(photos, tmp_path/'run', track=['wandb'], **KW)
    one, two = sorted((tmp_path/'run'/'wandb').glob('offline-run-*/*.wandb'))
    assert one.name == two.name == f'run-{json.loads((tmp_path/"run"/"config.json").read_text())["wandb"]}.wandb'
    for f, tags in ((one, ('loss', 'lr', 'psnr', 'photos')), (two, ('d', 'gan', 'g_lr', 'color_ratio', 'photos'))):
        tags = [f'{"pretrain" if f == one else "adversarial"}/{tag}'.encode() for tag in tags]
        until = time.monotonic() + 60 # W&B writes from a process of its own, after `finish` has returned too
        while not all(tag in f.read_bytes() for tag in tags) and time.monotonic() < until: time.sleep(.1)
        assert [tag for tag in tags if tag not in f.read_bytes()] == []
    assert len(list((tmp_path/'run'/'wandb').rglob('*.png'))) == 4

def test_unknown(photos, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'mlflow': choose among \['tensorboard', 'wandb'\]"): train(photos, tmp_path/'run', track=['mlflow'], **KW)
    monkeypatch.setattr(trackers, 'find_spec', lambda n: None)
    with pytest.raises(ValueError, match='not installed: pip install tensorboard'): TrackPretrain(tmp_path, ['tensorboard'])
    assert not (tmp_path/'run').exists()

@pytest.mark.parametrize('stage', [1, 2])
def test_tracker_that_does_not_start(photos, tmp_path, monkeypatch, stage):
    "The run is left as it was found: unlocked, and signals with their usual effect"
    import signal
    def broken(*_): raise ConnectionError('no way to the server')
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setitem(trackers.TRACKERS, 'wandb', broken)
    with pytest.raises(ConnectionError, match='no way'): train(photos, tmp_path/'run', track=['wandb'], **{**KW, 'pretrain_epochs': 2 - stage})
    assert signal.getsignal(signal.SIGTERM) == before
    monkeypatch.undo()
    monkeypatch.setattr(training, 'generator_of', lambda cfg: pix2pix_generator(n_features=4, levels=4))
    config = json.loads((tmp_path/'run'/'config.json').read_text())
    config['arguments']['track'] = []
    (tmp_path/'run'/'config.json').write_text(json.dumps(config))
    resume(tmp_path/'run', progress=False)
