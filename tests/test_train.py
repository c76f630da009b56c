"The command colorize-train, as people call it."
import signal, subprocess, sys
from pathlib import Path
import pandas as pd, pytest, torch
from PIL import Image
from conftest import save_crops
from colorize_fastai.callbacks import Checkpoints
from colorize_fastai.data import colorize_dls
from colorize_fastai.generator import pix2pix_generator
from colorize_fastai.photo import sample_photos
from colorize_fastai.pretrain import colorize_learner
from colorize_fastai.run import RunError
from colorize_fastai.train import preset, resume, stages_of, train
from colorize_fastai.weights import load_generator, weights_info

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Nine color photos in two folders, a broken one and a text"
    root = tmp_path_factory.mktemp('photos')
    (root/'sub').mkdir()
    save_crops(root, 3, size=64, photos=3, suffix='.jpg', sub=lambda j: 'sub' if j else '.')
    (root/'broken.jpg').write_bytes((root/'sub').joinpath(next((root/'sub').iterdir()).name).read_bytes()[:300])
    (root/'notes.txt').write_text('not a photo')
    return root

SMALL = '--preset quick --scratch --patch 16 --size 32 --bs 2 --num-workers 0 --device cpu'.split()
SMALLER = [*SMALL, '--encoder', 'test_efficientnet'] # for this process, which has loaded timm already

def test_both_stages_leave_a_run(command, folder, tmp_path, capsys):
    from colorize_fastai.cli import colorize, colorize_train
    run = tmp_path/'run'
    res = command('colorize-train', folder, '--out', run, *SMALL, '--pretrain-epochs', 2, '--adversarial-epochs', 1, '--valid-pct', .3)
    assert res.returncode == 0, res.stderr
    assert '9 photos: 6 to train on, 3 to validate on' in res.stdout and 'broken.jpg' in res.stdout and str(run) in res.stdout
    assert 'Traceback' not in res.stderr and '\x1b' not in res.stdout
    assert sorted(p.name for p in run.iterdir() if p.name != '.lock') == ['checkpoints', 'config.json', 'discriminator.safetensors',
        'generator.safetensors', 'metrics.csv', 'pretrained.safetensors', 'results.png', 'split.csv']
    log = pd.read_csv(run/'metrics.csv').query('stage == "pretrain"')
    assert len(log) == 2 and {'train_loss', 'valid_loss', 'psnr', 'ssim', 'delta_e', 'color_ratio'} <= set(log.columns)
    assert pd.read_csv(run/'metrics.csv').stage.tolist() == ['pretrain', 'pretrain', 'adversarial']
    assert weights_info(run/'pretrained.safetensors')['epoch'] == 2 and weights_info(run)['epoch'] == 1 and load_generator(run)(torch.zeros(1, 1, 20, 30)).shape == (1, 2, 20, 30)
    assert Image.open(run/'results.png').width > 300
    assert colorize([str(sample_photos(grey=True)['coins']), '-o', str(tmp_path/'out'), '--weights', str(run)]) == 0 and (tmp_path/'out'/'coins.png').exists()
    before = (run/'generator.safetensors').read_bytes()
    capsys.readouterr()
    assert colorize_train([str(folder), '--out', str(run), *SMALL]) == 2 and 'another --out' in capsys.readouterr().err
    assert (run/'generator.safetensors').read_bytes() == before

def test_same_seed_same_weights(folder, tmp_path):
    from colorize_fastai.cli import colorize_train
    for name, seed in (('a', 1), ('b', 1), ('c', 2)):
        assert colorize_train([str(folder), '--out', str(tmp_path/name), *SMALLER, '--pretrain-epochs', '1', '--adversarial-epochs', '1', '--seed', str(seed)]) == 0
    a, b, c = (weights_info(tmp_path/n)['sha256'] for n in 'abc')
    assert a == b != c

@pytest.mark.parametrize('args,says', [
    (['{folder}/nowhere'], 'nowhere'), (['{empty}'], 'photo'), (['{folder}', '--preset', 'best'], "['ours', 'quick', 'tutorial', 'pix2pix']"),
    (['{folder}', '--encoder', 'resnet19'], 'resnet19'), (['{folder}', '--decoder', 'big'], "['light', 'dynamic']"),
    (['{folder}', '--device', 'gpu'], "expected 'cpu'"), (['{folder}', '--valid-pct', '30'], 'between 0 and 1'),
    (['{folder}', '--split', '{folder}/none.csv'], 'none.csv'), (['{folder}', '--min-colorfulness', '500'], 'lower min_colorfulness'),
    (['{folder}', '--gan', 'wgan'], 'wgan'), (['{folder}', '--patch', '286'], 'at least 96'), (['{folder}', '--generator', 'nowhere'], 'nowhere'), (['{folder}', '--bs', '0'], 'bs'), (['{folder}', '--size', '0'], 'size'),
    (['{folder}', '--pretrain-epochs', '-1'], 'epochs'),
    (['{folder}', '--pretrain-epochs', '0', '--adversarial-epochs', '0'], 'Nothing to do')])
def test_mistakes_are_one_line(folder, tmp_path, capsys, args, says):
    from colorize_fastai.cli import colorize_train
    (tmp_path/'empty').mkdir()
    args = [a.format(folder=folder, empty=tmp_path/'empty') for a in args]
    assert colorize_train([args[0], '--out', str(tmp_path/'run'), *SMALLER, *args[1:]]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and err[0].startswith('colorize-train: ') and says in err[0], err
    assert not (tmp_path/'run'/'generator.safetensors').exists()

@pytest.mark.slow
def test_resume_from_the_shell(command, folder, tmp_path):
    "Ctrl-C in the midst of it, and on; then once more, when there is nothing left to do"
    run, args = tmp_path/'run', [*SMALL, '--pretrain-epochs', '2', '--adversarial-epochs', '30', '--valid-pct', '.3', '--checkpoint-minutes', '0']
    p = subprocess.Popen([Path(sys.executable).with_name('colorize-train'), folder, '--out', run, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stdout:
        if line.startswith('epoch 1  d '): break # in stage 2
    p.send_signal(signal.SIGTERM)
    _, err = p.communicate(timeout=120)
    assert p.returncode == 130 and f'and saved: colorize-train --resume {run}' in err and 'Traceback' not in err
    done = len(pd.read_csv(run/'metrics.csv'))
    p = subprocess.Popen([Path(sys.executable).with_name('colorize-train'), '--resume', run], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    first = next(line for line in p.stdout if line.startswith('epoch'))
    assert first.startswith(f'epoch {done - 2 + 1}  d ')
    p.send_signal(signal.SIGINT)
    p.communicate(timeout=120)
    assert p.returncode == 130

def test_resume_wants_no_settings(capsys):
    from colorize_fastai.cli import colorize_train
    for args, says in ((['--resume', 'run', '--lr', '1', '--out', 'x'], '--out, --lr'), (['folder'], '--out RUN'), ([], 'FOLDER')):
        with pytest.raises(SystemExit): colorize_train(args)
        assert says in capsys.readouterr().err

def test_a_net_of_ones_own(folder, tmp_path):
    "`train` takes a net that is built already; a run of it is gone on with from its recipe, and longer than first said"
    net = pix2pix_generator(n_features=4, levels=4)
    kw = dict(size=32, bs=4, n_features=8, valid_pct=.3, num_workers=0, device='cpu', verbose=False, progress=False, adversarial_epochs=1)
    run = train(folder, tmp_path/'run', 'quick', generator=net, pretrain_epochs=1, **kw)
    assert weights_info(run)['args'] == net.recipe[1]
    resume(run, adversarial_epochs=2, progress=False)
    assert pd.read_csv(run/'metrics.csv').stage.tolist() == ['pretrain', 'adversarial', 'adversarial']
    with pytest.raises(RunError, match='in stage 2 already'): resume(run, pretrain_epochs=2, progress=False)
    with pytest.raises(ValueError, match='got 1'): resume(run, adversarial_epochs=1, progress=False)

def test_stage_1_trained_longer(folder, tmp_path):
    "The same lines in a notebook with a larger number, too"
    dls = colorize_dls(folder, size=32, bs=4, valid_pct=.3, num_workers=0, device='cpu', verbose=False)
    for n in (1, 3):
        learn = colorize_learner(dls, pix2pix_generator(n_features=4, levels=4), metrics=[], precision='fp32')
        with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(n, cbs=Checkpoints(tmp_path/'run', resume=True))
    assert pd.read_csv(tmp_path/'run'/'metrics.csv').epoch.tolist() == [1, 2, 3]

@pytest.mark.parametrize('patch', [1, 16, 286])
def test_the_patch_changes_no_random_number(patch):
    "Otherwise stage 1 would begin with other weights"
    torch.manual_seed(0); want = torch.rand(1)
    torch.manual_seed(0); stages_of(preset(patch=patch, size=256))
    assert torch.equal(torch.rand(1), want)

@pytest.mark.parametrize('kw', [dict(norm='instance'), dict(conditional=False), dict(norm='spectral', conditional=False)])
def test_the_discriminator_is_the_one_that_was_asked_for(folder, tmp_path, kw):
    run = train(folder, tmp_path/'run', 'quick', generator=pix2pix_generator(n_features=4, levels=4), pretrain_epochs=0, adversarial_epochs=1, size=32, bs=4, patch=16,
        n_features=8, valid_pct=.3, num_workers=0, device='cpu', verbose=False, progress=False, **kw)
    got = weights_info(run/'discriminator.safetensors')['args']
    assert {k: got[k] for k in ('patch', 'n_features', 'norm', 'conditional')} == dict(patch=16, n_features=8, norm='batch', conditional=True) | kw
    with pytest.raises(ValueError, match="group.*'instance'"): train(folder, tmp_path/'no', norm='group', device='cpu')

def test_resume_trains_longer(folder, tmp_path, capsys):
    "More epochs than first said: stage 1 goes on until stage 2 has begun, then only stage 2 does; fewer are refused"
    from colorize_fastai.cli import colorize_train
    run = tmp_path/'run'
    def resume(*args): return colorize_train(['--resume', str(run), *args])
    def stages(): return pd.read_csv(run/'metrics.csv').stage.tolist()
    assert colorize_train([str(folder), '--out', str(run), *SMALLER, '--pretrain-epochs', '1', '--adversarial-epochs', '0', '--valid-pct', '.3']) == 0
    assert resume('--pretrain-epochs', '2') == 0 and stages() == ['pretrain']*2
    assert resume('--adversarial-epochs', '1') == 0 and stages() == ['pretrain']*2 + ['adversarial']
    assert resume('--adversarial-epochs', '2') == 0 and stages() == ['pretrain']*2 + ['adversarial']*2
    before = (run/'generator.safetensors').read_bytes()
    capsys.readouterr()
    assert resume('--pretrain-epochs', '3') == 2 and 'only adversarial_epochs can grow' in capsys.readouterr().err
    assert resume('--adversarial-epochs', '1') == 2 and 'can become more than the 2' in capsys.readouterr().err
    assert (run/'generator.safetensors').read_bytes() == before

def test_going_on_from_weights(folder, tmp_path):
    "Stage 1 starts from them: without a step's worth of a rate it ends there; a head of another kind is fresh; what was cut off goes on"
    from colorize_fastai.callbacks import Budget
    small = dict(size=32, bs=2, num_workers=0, device='cpu', verbose=False, progress=False, adversarial_epochs=0, pretrain_epochs=1)
    first = train(folder, tmp_path/'first', encoder='test_efficientnet', pretrained=False, channels=(8, 8, 8), **small)
    net = load_generator(first)
    same = load_generator(train(folder, tmp_path/'same', start=first, lr=1e-12, **small))
    assert same.recipe == net.recipe and all(torch.allclose(p, q, atol=1e-6) for p,q in zip(net.parameters(), same.parameters(), strict=True))
    other = load_generator(train(folder, tmp_path/'other', start=str(first), head='palette', lr=1e-12, **small))
    assert other.recipe[1]['head'] == 'palette' and torch.allclose(other.decoder[2].mix[1][0].weight, net.decoder[2].mix[1][0].weight, atol=1e-6)
    def cut(self):
        if self.train_iter == 2: raise KeyboardInterrupt
    with pytest.MonkeyPatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr(Budget, 'before_batch', cut)
        train(folder, tmp_path/'cut', start=first, budget=4, minutes=0, **small)
    resume(tmp_path/'cut', progress=False)
    whole = train(folder, tmp_path/'whole', start=first, budget=4, **small)
    assert weights_info(tmp_path/'cut')['sha256'] == weights_info(whole)['sha256']
    with pytest.raises(ValueError, match='give one'): train(folder, tmp_path/'x', start=first, generator=first, **small)
