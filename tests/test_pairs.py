"Pairs of pictures: both halves see the same crop and the same mirror, whatever reads them, and a pass can be gone on with"
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from colorize_fastai.callbacks import first_photos
from colorize_fastai.cli import colorize_train
from colorize_fastai.generator import unet_generator
from colorize_fastai.inference import Colorizer
from colorize_fastai.pairs import pairs_dls, translate
from colorize_fastai.photo import PhotoError
from colorize_fastai.run import Run, RunError
from colorize_fastai.train import resume, started, train
from colorize_fastai.weights import WeightsError, load_generator, save_weights, weights_info

@pytest.fixture
def folder(tmp_path_factory):
    "Pairs whose right picture is the negative of the left one, so that any crop and mirror of one can be told from the other"
    tmp_path, rng = tmp_path_factory.mktemp('pairs'), np.random.default_rng(0)
    for n in range(10):
        px = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48), Image.Resampling.BICUBIC))
        Image.fromarray(np.concatenate([px, 255 - px], 1)).save(tmp_path/f'{"val" if n > 7 else "train"}_{n}_AB.png')
    return tmp_path

def passed(dls, epoch, step=0):
    dls.train.set_epoch(epoch, step)
    return list(dls.train)

def test_both_pictures_are_cropped_and_mirrored_alike(folder):
    dls = pairs_dls(folder, size=32, bs=4, load_size=40, num_workers=0, device='cpu')
    assert len(dls.train_ds) == 8 and len(dls.valid_ds) == 2
    batches = [b for e in range(4) for b in passed(dls, e)]
    assert all((x + y).abs().max() < 3/127.5 for x,y in batches) # resizing rounds each picture on its own
    assert len({x.numpy().tobytes() for x,_ in batches}) == len(batches)

@pytest.mark.slow
def test_workers_and_resuming_change_nothing(folder):
    one, two = (pairs_dls(folder, 'BtoA', size=32, bs=2, load_size=40, num_workers=n, device='cpu') for n in (0, 2))
    first, again, rest = passed(one, 3), passed(two, 3), passed(one, 3, 2)
    assert len(first) == 4
    for a,b in zip(first, again, strict=True): assert all(torch.equal(o, p) for o,p in zip(a, b, strict=True))
    for a,b in zip(first[2:], rest, strict=True): assert all(torch.equal(o, p) for o,p in zip(a, b, strict=True))

def test_pictures_of_odd_width_are_refused(tmp_path):
    Image.new('RGB', (49, 24)).save(tmp_path/'a.png'); Image.new('RGB', (48, 24)).save(tmp_path/'b.png')
    with pytest.raises(PhotoError, match='1 of 2 pictures cannot be pairs, for example .*a.png of 49x24 pixels: expected two pictures of one width'):
        pairs_dls(tmp_path, size=16, bs=2, valid_pct=0, num_workers=0, device='cpu')

# Training with pairs

SMALL = dict(task='pairs', size=32, bs=2, patch=16, n_features=8, pretrained=False, num_workers=0, device='cpu', precision='fp32',
    verbose=False, progress=False)
TINY = dict(encoder='test_efficientnet', channels=(8, 8, 8, 8))

def tinier(tmp_path):
    "Weights of a small net that colors"
    return save_weights(unet_generator('test_efficientnet', False, channels=(8, 8, 8, 8)), tmp_path/'color.safetensors', stage='pretrain')

def test_the_direction_lasts(folder):
    "A loader made of another gives the same picture: sample grids and results are made so"
    ab, ba = (pairs_dls(folder, d, size=32, bs=2, num_workers=0, device='cpu', verbose=False) for d in ('AtoB', 'BtoA'))
    for dls in (ab, ba): assert torch.equal(first_photos(dls, 2)[0], dls.valid.one_batch()[0])
    assert torch.equal(first_photos(ab, 2)[0], first_photos(ba, 2)[1])

def test_two_folders_and_one_that_holds_them(folder, tmp_path_factory):
    "Both give the batches of the side-by-side files"
    root = tmp_path_factory.mktemp('two')
    for f in folder.glob('*.png'):
        for d,px in zip('AB', np.split(np.asarray(Image.open(f)), 2, 1), strict=True):
            (root/d).mkdir(exist_ok=True)
            Image.fromarray(px).save(root/d/f.name)
    one, *others = (passed(pairs_dls(s, 'BtoA', size=32, bs=4, num_workers=0, device='cpu', verbose=False), 0)
                    for s in (folder, root, [root/'A', root/'B']))
    for other in others:
        for a,b in zip(one, other, strict=True): assert all(torch.equal(o, p) for o,p in zip(a, b, strict=True))

def test_train_in_one_go_or_interrupted(folder, tmp_path):
    "The same weights to the last bit, and everything that a run has"
    kw = dict(SMALL, **TINY, direction='BtoA', pretrain_epochs=1, every=2, minutes=0)
    whole = train(folder, tmp_path/'whole', adversarial_epochs=2, **kw)
    part = train(folder, tmp_path/'part', adversarial_epochs=1, **kw)
    resume(part, adversarial_epochs=2, progress=False)
    a, b = (weights_info(o) for o in (whole, part))
    assert a['sha256'] == b['sha256'] and (a['args']['n_in'], a['args']['n_out']) == (3, 3)
    assert {'config.json', 'split.csv', 'metrics.csv', 'pretrained.safetensors', 'discriminator.safetensors'} <= {p.name for p in whole.iterdir()}
    assert sorted(p.name for p in (whole/'samples').iterdir()) == [f'{2*i:07d}.jpg' for i in range(1, 5)]
    assert Run(whole).config['arguments']['cfg']['direction'] == 'BtoA'
    split = pd.read_csv(whole/'split.csv')
    assert sorted(split.file[split.is_valid]) == ['val_8_AB.png', 'val_9_AB.png']

def test_resume_where_the_pairs_are_now(folder, tmp_path):
    "Also two folders, of which the first is the one that names are relative to"
    (tmp_path/'old').mkdir()
    for f in folder.glob('*.png'):
        for d,px in zip('AB', np.split(np.asarray(Image.open(f)), 2, 1), strict=True):
            (tmp_path/'old'/d).mkdir(exist_ok=True)
            Image.fromarray(px).save(tmp_path/'old'/d/f.name)
    run = train([tmp_path/'old'/d for d in 'AB'], tmp_path/'run', pretrain_epochs=1, adversarial_epochs=0, **SMALL, **TINY)
    (tmp_path/'old').rename(tmp_path/'new')
    with pytest.raises((PhotoError, RunError)): resume(run, pretrain_epochs=2, progress=False)
    resume(run, tmp_path/'new', pretrain_epochs=2, progress=False)
    assert len(pd.read_csv(run/'metrics.csv')) == 2

def test_from_weights_of_color(folder, tmp_path):
    "All but the first and the last layer are those of the weights; the net is theirs, whatever the preset says"
    color = load_generator(tinier(tmp_path))
    net = started(tmp_path/'color.safetensors', task='pairs')
    old, new = color.state_dict(), net.state_dict()
    other = [k for k in new if new[k].shape != old[k].shape]
    assert other == ['encoder.conv_stem.weight', 'head.weight', 'head.bias']
    assert all(torch.equal(new[k], old[k]) for k in new if k not in other)
    run = train(folder, tmp_path/'run', 'quick', start=tmp_path/'color.safetensors', pretrain_epochs=0, adversarial_epochs=1, **SMALL)
    assert weights_info(run)['args']['encoder'] == 'test_efficientnet'
    with pytest.raises(ValueError, match='--from'): train(folder, tmp_path/'no', 'quick', generator=tmp_path/'color.safetensors', **SMALL)
    with pytest.raises(WeightsError, match='another task'): Colorizer(run, 'cpu')

def test_the_command(folder, tmp_path, capsys):
    weights = tinier(tmp_path)
    args = f'--task pairs --direction BtoA --from {weights} --size 32 --patch 16 --bs 2 --num-workers 0 --device cpu --precision fp32'.split()
    assert colorize_train([str(folder), *args, '--out', str(tmp_path/'run'), '--pretrain-epochs', '1', '--adversarial-epochs', '1']) == 0
    assert '10 pairs (48x48): 8 to train on, 2 held out' in (says := capsys.readouterr().out) and 'translate(PICTURE' in says
    before = np.asarray(Image.open(tmp_path/'run'/'results.png').convert('RGB'))
    assert colorize_train(['--resume', str(tmp_path/'run'), '--adversarial-epochs', '2']) == 0
    after = np.asarray(Image.open(tmp_path/'run'/'results.png').convert('RGB'))
    assert before.shape == after.shape and (before != after).any()

@pytest.mark.parametrize('args,says', [
    ('{photos} --task pairs', 'cannot be pairs, for example'), ('{folder} --task depth', "['color', 'pairs']"), ('{folder} --direction BtoA', 'goes with'),
    ('{folder} --task pairs --direction left', "['AtoB', 'BtoA']"), ('{folder} --task pairs --zoom 2 --loss chroma_l1', "['zoom', 'loss']"),
    ('{folder}/none --task pairs', 'none'), ('{lone} --task pairs', 'no partner of the same name')])
def test_mistakes_are_one_line(folder, tmp_path, capsys, args, says):
    for d in ('photos', 'A', 'B'): (tmp_path/d).mkdir()
    Image.new('RGB', (33, 48)).save(tmp_path/'photos'/'a.png')
    for d in 'AB': Image.new('RGB', (32, 32)).save(tmp_path/d/f'{d}.png')
    args = args.format(folder=folder, photos=tmp_path/'photos', lone=tmp_path).split()
    assert colorize_train([*args, '--out', str(tmp_path/'run'), '--encoder', 'test_efficientnet', '--scratch', '--device', 'cpu', '--num-workers', '0']) == 2
    err = capsys.readouterr().err.strip().splitlines()
    assert len(err) == 1 and says in err[0], err

def test_translate_gives_what_the_net_says(tmp_path):
    "A net that inverts: 1×1 convolutions would be it; here a module with the recipe of one"
    net = torch.nn.Conv2d(3, 3, 1)
    net.recipe = 'none', dict(n_in=3, n_out=3)
    with torch.no_grad(): net.weight.copy_(-torch.eye(3)[..., None, None]); net.bias.zero_()
    px = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(px).save(tmp_path/'a.png')
    assert (np.asarray(translate(tmp_path/'a.png', net, 16)).astype(int) == 255 - px.astype(int)).all()
