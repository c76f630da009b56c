"The command colorize-evaluate, as people call it."
import json
import numpy as np, pandas as pd, pytest, torch
from PIL import Image
from conftest import save_crops
from colorize_fastai import cli, evaluate
from colorize_fastai.evaluate import best_tint, compare, grey, mean_ab_per_L, summarize
from colorize_fastai.generator import ImageNetWeightsError, unet_generator
from colorize_fastai.inference import Colorizer
from colorize_fastai.photo import photo_files, read_rgb
from colorize_fastai.weights import save_weights

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Eight color photos in two folders"
    root = tmp_path_factory.mktemp('photos')
    (root/'sub').mkdir()
    save_crops(root, 2, step=40, size=64, sub=lambda j: 'sub' if j else '.')
    return root

SMALL = '--size 32 --device cpu --judge none'.split()

def run(capsys, *args):
    status = cli.colorize_evaluate([str(o) for o in args]); says = capsys.readouterr()
    return status, says.out, says.err.strip()

def test_as_a_command(command, tiny_weights, folder, tmp_path):
    r = command('colorize-evaluate', tiny_weights, folder, *SMALL, '--csv', 's.csv', '--figure', 'f.jpg', cwd=tmp_path)
    assert r.returncode == 0 and not r.stderr, r.stderr
    assert '8 photos at 32x32 (crop)' in r.stdout and [l.split()[0] for l in r.stdout.splitlines() if l.startswith(('grey', 'ours'))] == ['ours:'] + ['grey', 'ours']*3
    assert pd.read_csv(tmp_path/'s.csv').groupby('name').size().to_dict() == dict(grey=8, ours=8)
    with Image.open(tmp_path/'f.jpg') as im: assert im.width == 2160

def test_the_files_hold_what_compare_finds(capsys, tiny_weights, folder, tmp_path):
    status, out, err = run(capsys, tiny_weights, '--resize', 'stretch', folder, *SMALL, '--csv', tmp_path/'s.csv', '--json', tmp_path/'s.json', '--max-photos', 3)
    assert status == 0 and err == ''
    files = photo_files(folder)
    df = compare(dict(grey=grey(), ours=Colorizer(tiny_weights, 'cpu')), [files[i] for i in (0, 2, 5)], size=32, resize='stretch')
    got = pd.read_csv(tmp_path/'s.csv')
    assert got.file.tolist() == df.file.tolist() and np.allclose(got.drop(columns=['name', 'file']), df.drop(columns=['name', 'file']), rtol=1e-4)
    said, want = json.loads((tmp_path/'s.json').read_text()), summarize(df, intervals=True)
    assert (said['size'], said['resize'], said['judge'], said['weights']) == (32, 'stretch', None, str(tiny_weights))
    assert said['scores']['ours'] == pytest.approx(want.loc['ours'].to_dict(), rel=1e-3, abs=1e-6) # six digits are written
    assert f"{want.delta_e['ours']:.2f} [{want.delta_e_lo['ours']:.2f}, {want.delta_e_hi['ours']:.2f}]" in out

def test_baselines_are_fitted_on_the_photos_trained_on(capsys, tiny_weights, folder, tmp_path):
    names = [f.relative_to(folder).as_posix() for f in photo_files(folder)]
    pd.DataFrame(dict(file=names, is_valid=[i % 3 == 0 for i in range(8)])).to_csv(tmp_path/'split.csv', index=False)
    status, out, err = run(capsys, tiny_weights, folder, *SMALL, '--split', tmp_path/'split.csv', '--csv', tmp_path/'s.csv')
    assert status == 0 and str(tmp_path/'split.csv') in out
    train, held = ([folder/n for i,n in enumerate(names) if (i % 3 == 0) == v] for v in (False, True))
    want = compare(dict(grey=grey(), tint=best_tint(train), per_L=mean_ab_per_L(train)), held, size=32)
    got = pd.read_csv(tmp_path/'s.csv')
    assert set(got.file) == set(map(str, held)) and list(dict.fromkeys(got.name)) == ['grey', 'tint', 'per_L', 'ours']
    for k in 'tint', 'per_L': assert sorted(got[got.name == k].psnr) == pytest.approx(sorted(want[want.name == k].psnr), abs=1e-3)

def test_photos_trained_on_are_counted(capsys, tiny_weights, folder, tmp_path):
    (tmp_path/'generator.safetensors').write_bytes(tiny_weights.read_bytes())
    names = [f.relative_to(folder).as_posix() for f in photo_files(folder)]
    pd.DataFrame(dict(file=names, is_valid=[False]*5 + [True]*3)).to_csv(tmp_path/'split.csv', index=False)
    status, out, err = run(capsys, tmp_path, folder, *SMALL)
    assert status == 0 and err.startswith('5 of the 8 photos were trained on') and '--split' in err
    assert run(capsys, tmp_path, folder, *SMALL, '--split', tmp_path/'split.csv')[2] == ''

def test_another_programs_pictures(capsys, folder, tiny_weights, tmp_path):
    for p in photo_files(folder)[1:]:
        q = tmp_path/'made'/p.relative_to(folder).with_suffix('.bmp')
        q.parent.mkdir(parents=True, exist_ok=True); read_rgb(p).save(q)
    status, out, err = run(capsys, '--pred', tmp_path/'made', folder, *SMALL, '--json', tmp_path/'s.json')
    assert status == 0 and len(err.splitlines()) == 1 and err.startswith('skipped ') and 'no picture of it' in err
    scores = json.loads((tmp_path/'s.json').read_text())['scores']
    assert list(scores) == ['grey', 'pictures'] and scores['pictures']['photos'] == 7 and scores['pictures']['psnr'] == 100
    status, out, err = run(capsys, tiny_weights, folder, '--pred', tmp_path/'made', *SMALL)
    assert status == 0 and [l.split()[0] for l in out.splitlines() if l.startswith(('grey', 'ours ', 'pictures '))] == ['grey', 'ours', 'pictures']*3

@pytest.fixture
def judges(monkeypatch):
    "The names of the judges that are called for; each sees mean colors"
    called, Real = [], evaluate.Judge
    def Judge(name, device):
        called.append(name)
        if name == 'far_away': raise ImageNetWeightsError('No ImageNet weights: connect')
        return Real(torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten()), name)
    monkeypatch.setattr(evaluate, 'Judge', Judge)
    return called

@pytest.mark.parametrize('encoder, judge', [('tf_efficientnet_lite0', 'tf_efficientnet_lite1'), ('tf_efficientnet_lite1', 'tf_efficientnet_lite2')])
def test_the_judge_is_a_stranger(capsys, folder, tmp_path, judges, encoder, judge):
    weights = save_weights(unet_generator(encoder, pretrained=False, channels=(8, 8, 8, 8)), tmp_path/'w.safetensors')
    status, out, err = run(capsys, weights, folder, *SMALL[:-2])
    assert status == 0 and judges == [judge] and judge in out and 'Fréchet' in out
    status, out, err = run(capsys, weights, folder, *SMALL[:-2], '--judge', encoder)
    assert status == 2 and f'encoder {encoder!r}' in err and len(err.splitlines()) == 1

def test_without_a_judge_it_goes_on(capsys, tiny_weights, folder, judges):
    status, out, err = run(capsys, tiny_weights, folder, *SMALL[:-2], '--judge', 'far_away')
    assert status == 0 and 'connect; going on without a judge' in err and 'ours' in out and 'Fréchet' not in out

@pytest.mark.parametrize('args,says', [
    (['{w}', '{folder}/nowhere'], 'nowhere'), (['{w}', '{empty}'], 'photo'), (['none.safetensors', '{folder}'], 'none.safetensors'),
    (['{w}', '{folder}', '--resize', 'pad'], "['crop', 'stretch']"), (['{w}', '{folder}', '--size', '0'], 'size=0'), (['{w}', '{folder}', '--size', '8'], 'at least 11'),
    (['{w}', '{folder}', '--split', '{folder}/none.csv'], 'none.csv'), (['{w}', '{folder}', '--labels', '{labels}'], 'give a judge'),
    (['{w}', '{folder}', '--max-photos', '0'], '--max-photos 0'), (['{w}', '{folder}', '--csv', '{folder}/no/s.csv'], 'no folder'),
    (['{w}', '{folder}', '--figure', 'f.docx'], 'ends in .png'), (['{w}', '{folder}', '--device', 'gpu'], "device 'gpu'"),
    (['{w}', '{folder}', '--judge', 'no_such_net'], 'Unknown judge'), (['--pred', '{empty}', '{folder}'], 'photo')])
def test_mistakes_are_one_line(capsys, tiny_weights, folder, tmp_path, args, says):
    (tmp_path/'empty').mkdir()
    (tmp_path/'labels.csv').write_text('file,label\nchelsea0.png,281\n')
    args = [a.format(w=tiny_weights, folder=folder, empty=tmp_path/'empty', labels=tmp_path/'labels.csv') for a in args]
    status, out, err = run(capsys, *SMALL, *args)
    assert status == 2 and len(err.splitlines()) == 1 and err.startswith('colorize-evaluate: ') and says in err, err

def test_nothing_to_measure(capsys, folder):
    with pytest.raises(SystemExit) as e: cli.colorize_evaluate([str(folder)])
    assert e.value.code == 2 and '--pred' in capsys.readouterr().err

def test_interrupted(capsys, tiny_weights, folder, monkeypatch):
    def stop(*a, **kw): raise KeyboardInterrupt
    monkeypatch.setattr(evaluate, 'compare', stop)
    status, out, err = run(capsys, tiny_weights, folder, *SMALL)
    assert status == 130 and err == 'colorize-evaluate: stopped'
