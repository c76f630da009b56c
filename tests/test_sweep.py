"The experiment bench: what is trained is what `train` trains, and what it says of it is what `compare` finds; killed, it goes on."
import json, signal, subprocess, sys
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from conftest import save_crops
from colorize_fastai.data import read_split
from colorize_fastai.evaluate import compare, grey, summarize
from colorize_fastai.inference import Colorizer
from colorize_fastai.run import Run, RunError
from colorize_fastai.sweep import combinations, over, run_names, sweep
from colorize_fastai.train import train

tiny = dict(encoder='test_efficientnet', pretrained=False, channels=[8, 8, 8, 8], size=32, bs=4, num_workers=0, device='cpu', adversarial_epochs=0)

@pytest.fixture(scope='module')
def photos(tmp_path_factory): return save_crops(tmp_path_factory.mktemp('photos'), 4, size=40)

@pytest.fixture(scope='module')
def done(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp('sweep')/'out'
    grid = [dict(loss='l1'), dict(loss='l2', seed=7), dict(loss='l1', lr=1e30), dict(loss='none')]
    return out, sweep(photos, out, grid, budget=3, valid_pct=.25, verbose=False, **tiny)

def test_a_run_is_that_of_train(done, photos, tmp_path):
    "Bit for bit the weights that `train` gives with the same arguments and split"
    out, _ = done
    train(photos, tmp_path/'by_hand', loss='l1', budget=3, split=out/'split.csv', verbose=False, progress=False, **tiny)
    assert (tmp_path/'by_hand'/'generator.safetensors').read_bytes() == (out/'loss=l1'/'generator.safetensors').read_bytes()

def test_scores_are_those_of_compare(done, photos):
    out, table = done
    split = read_split(out/'split.csv')
    files = [photos/f for f in split.file[split.is_valid]]
    assert len(files) == 4
    names = ['loss=l1', 'loss=l2_seed=7']
    df = compare({'grey': grey(), **{k: Colorizer(out/k) for k in names}}, files, size=32)
    want, vs = summarize(df), summarize(df, names[0])
    for k in names:
        for c in ('psnr', 'delta_e', 'delta_e_ratio', 'delta_e_ratio_lo', 'color_ratio', 'hist_ab'):
            assert table.loc[k, c] == pytest.approx(want.loc[k, c], rel=1e-5), (k, c)
        assert table.loc[k, 'delta_e_vs_hi'] == pytest.approx(vs.loc[k, 'delta_e_ratio_hi'], rel=1e-5)
    assert table.loc[names, 'steps'].tolist() == [3, 3] and table.loc[names, 'photos_seen'].tolist() == [12, 12]

def test_all_have_the_same_photos_held_out(done):
    out, _ = done
    splits = [read_split(out/k/'split.csv') for k in ('loss=l1', 'loss=l2_seed=7')]
    assert splits[0][['file', 'is_valid']].equals(splits[1][['file', 'is_valid']])

def test_a_failed_run_is_a_row(done):
    out, table = done
    assert table['error'].tolist()[:2] == ['', ''] and 'Diverged' in table.loc['loss=l1_lr=1e+30', 'error'] and "'none'" in table.loc['loss=none', 'error']
    assert table.loc['loss=none', ['psnr', 'delta_e_vs']].isna().all()
    text = (out/'sweep.md').read_text(encoding='utf-8')
    assert text.count('\n| loss=') == 4 and 'Diverged' in text and not text.endswith('\n\n')
    assert pd.read_csv(out/'sweep.csv', index_col=0).index.tolist() == table.index.tolist()
    assert {f.name for f in out.iterdir() if f.is_file()} == {'split.csv', 'sweep.csv', 'sweep.md', 'sweep.png', 'sheet.png'}

def test_nothing_is_trained_twice(done, photos, capsys):
    out, table = done
    grid = [dict(loss='l1'), dict(loss='l2', seed=7), dict(loss='l1', lr=1e30), dict(loss='none')]
    before = {f: f.stat().st_mtime_ns for f in out.rglob('*.safetensors')}
    again = sweep(photos, out, grid, budget=3, valid_pct=.25, verbose=False, **tiny)
    pd.testing.assert_frame_equal(again, table)
    assert {f: f.stat().st_mtime_ns for f in out.rglob('*.safetensors')} == before
    with pytest.raises(RunError, match="'budget': 3.* not .*'budget': 9"): sweep(photos, out, grid, budget=9, valid_pct=.25, verbose=False, **tiny)

def test_stage_2_and_other_photographs(done, photos, tmp_path):
    "A grid over stage 2 starts from weights; one over photographs has to say on which to measure"
    out, _ = done
    start = out/'loss=l1'/'generator.safetensors'
    args = {**tiny, 'adversarial_epochs': 1}
    t = sweep(photos, tmp_path/'gan', dict(patch=[1, 16], gan='lsgan'), generator=str(start), n_features=8, budget=2, valid_pct=.25, verbose=False, beside=dict(start=start), **args)
    assert t.index.tolist() == ['patch=1_gan=lsgan', 'patch=16_gan=lsgan', 'grey', 'start'] and (t.steps[:2] == 2).all()
    assert len(Run(tmp_path/'gan'/'patch=1_gan=lsgan').checkpoints('adversarial')) == 1
    with pytest.raises(ValueError, match='photos='): sweep(photos, tmp_path/'x', dict(source=[str(photos)]), **tiny)
    assert not (tmp_path/'x').exists() or not any(p.is_dir() for p in (tmp_path/'x').iterdir())

def test_over_seeds(photos, tmp_path):
    t = sweep(photos, tmp_path, dict(loss=['l1', 'l2'], seed=[1, 2]), budget=1, valid_pct=.25, verbose=False, **tiny)
    m = over(t)
    assert m.runs.tolist() == [2, 2]
    two = t.psnr[['loss=l1_seed=1', 'loss=l1_seed=2']]
    assert m.loc['l1', 'psnr'] == pytest.approx(two.mean()) and m.loc['l1', 'psnr_std'] == pytest.approx(two.std())

def test_names_of_many_settings():
    cells = combinations(dict(a=[1, 2], b=['x'*70], c=['y'*70, 'z'*70]))
    names = run_names(cells)
    assert len(set(names)) == 4 and max(map(len, names)) < 120 and all('/' not in n for n in names)

FILE = '''source: {photos}
out: {out}
encoder: test_efficientnet
pretrained: false
channels: [8, 8, 8, 8]
size: 32
bs: 4
num_workers: 0
device: cpu
adversarial_epochs: 0
valid_pct: .25
minutes: 0
budget: 40
grid:
  lr: [1e-3, 2e-3, 3e-3]
'''

def test_killed_and_gone_on_with(command, photos, tmp_path):
    "kill −9 in the second of three runs; the same command goes on with it, and the first is not touched"
    (tmp_path/'s.yaml').write_text(FILE.format(photos=photos, out=tmp_path/'out'))
    exe = Path(sys.executable).with_name('colorize-sweep')
    p = subprocess.Popen([exe, tmp_path/'s.yaml'], stdout=subprocess.PIPE, text=True)
    second = tmp_path/'out'/'lr=0.002'/'checkpoints'
    for line in p.stdout:
        if line.startswith('1/3'): break
    while p.poll() is None and not list(second.glob('*.ckpt')): pass
    p.kill(); p.wait()
    first = (tmp_path/'out'/'lr=0.001'/'generator.safetensors').stat().st_mtime_ns
    assert not (second.parent/'row.json').exists()
    r = command('colorize-sweep', tmp_path/'s.yaml')
    assert r.returncode == 0 and not r.stderr, r.stderr
    assert (tmp_path/'out'/'lr=0.001'/'generator.safetensors').stat().st_mtime_ns == first
    table = pd.read_csv(tmp_path/'out'/'sweep.csv', index_col=0)
    assert table.steps.dropna().tolist() == [40]*3 and table['error'].isna().all()

def test_interrupted(photos, tmp_path):
    "Ctrl-C saves the run, and the exit status says so"
    (tmp_path/'s.yaml').write_text(FILE.format(photos=photos, out=tmp_path/'out').replace('budget: 40', 'budget: 100m'))
    p = subprocess.Popen([Path(sys.executable).with_name('colorize-sweep'), tmp_path/'s.yaml'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while p.poll() is None and not list((tmp_path/'out').glob('*/checkpoints/*.ckpt')): pass
    p.send_signal(signal.SIGINT)
    _, err = p.communicate(timeout=60)
    assert p.returncode == 130 and err == 'colorize-sweep: stopped; the same command goes on\n'

@pytest.mark.parametrize('text,says', [('a: [', 'neither YAML nor JSON'), ('source: x', 'lacks out, grid'), ('source: nowhere\nout: o\ngrid: {lr: [1]}', 'nowhere'),
    ('source: .\nout: o\ngrid: {learning_rate: [1]}', "Unknown settings ['learning_rate']")])
def test_wrong_files(command, tmp_path, text, says):
    (tmp_path/'s.yaml').write_text(text)
    r = command('colorize-sweep', 's.yaml', cwd=tmp_path)
    assert r.returncode == 2 and says in r.stderr and len(r.stderr.splitlines()) == 1, r.stderr
