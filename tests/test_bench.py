"The bench measures what it says: its other side is the tutorial recipe, its rows give numbers, its table and JSON have their shape. No test looks at a speed."
import copy, inspect, json, math, os, subprocess, sys
from importlib.metadata import version
import numpy as np, pytest, torch
from PIL import Image
from skimage.color import lab2rgb, rgb2lab
from test_parity import ReferenceStep, reference_pretrain
from colorize_fastai import bench
from colorize_fastai.discriminator import PatchDiscriminator
from colorize_fastai.generator import unet_generator

def module(*args, **kw):
    "The bench as a process of its own"
    return subprocess.run([sys.executable, '-m', 'colorize_fastai.bench', *args], capture_output=True, text=True, timeout=300, **kw)

# The other side

def test_photos(tmp_path):
    files = bench.bench_photos(tmp_path, 12, 700, 500)
    assert [p.name for p in files] == [f'{i:04d}.jpg' for i in range(12)] and {Image.open(p).size for p in files} == {(700, 500)}
    assert len({p.read_bytes() for p in files}) == 10 and np.ptp(np.asarray(Image.open(files[0])), (0, 1)).min() > 200

def test_batches(tmp_path):
    "Photos stretched with bicubic interpolation, scikit-image's Lab, some mirrored, each photo once"
    files = bench.bench_photos(tmp_path, 10, 80, 60)
    torch.manual_seed(0)
    batches, want = list(bench.tutorial_loader(files, size=48, bs=4)), []
    for f in files:
        lab = rgb2lab(np.array(Image.open(f).convert('RGB').resize((48, 48), Image.Resampling.BICUBIC)))
        want.append(torch.tensor(lab, dtype=torch.float32).permute(2, 0, 1))
    assert [len(L) for L,_ in batches] == [4, 4, 2]
    got = torch.cat([torch.cat([(L + 1)*50, ab*110], 1) for L,ab in batches])
    off = torch.stack([(got[:,None] - torch.stack(w)).abs().amax((2, 3, 4)) for w in (want, [o.flip(2) for o in want])]) # [flip, got, want]
    assert (off.amin((0, 1)) < 1e-3).all() and (off.amin((0, 2)) < 1e-3).all() and 0 < (off[1] < off[0]).sum() < 100

def test_net():
    torch.manual_seed(0)
    a, b = bench.tutorial_net(), unet_generator('resnet18', pretrained=False, decoder='dynamic')
    b.unet.load_state_dict(a.state_dict(), strict=True)
    x = torch.randn(2, 1, 64, 64)
    with torch.no_grad(): assert torch.equal(a.train()(x), b.train()(x))

@pytest.fixture
def batches():
    torch.manual_seed(1)
    return [bench._batch(2, 32, 'cpu') for _ in range(3)]

def same(a, b):
    for p, q in zip(a.parameters(), b.parameters(), strict=True): torch.testing.assert_close(p, q, atol=1e-6, rtol=0)

def test_stage_1(batches):
    net = bench.tutorial_net()
    ref = copy.deepcopy(net)
    step = bench.tutorial_pretrain(net)
    ours, theirs = ([o['l1'] for o in l] for l in ([step(*b) for b in batches], reference_pretrain(ref, batches)))
    assert ours == pytest.approx(theirs, abs=1e-6) and ours[0] != ours[-1]
    same(net, ref)

def test_stage_2(batches):
    net, critic = bench.tutorial_net(), PatchDiscriminator(70)
    ref = ReferenceStep(copy.deepcopy(net).train(), copy.deepcopy(critic).train())
    step = bench.tutorial_gan(net, critic)
    for b in batches:
        ours, theirs = step(*b), ref.optimize(*b)
        for k in ('d', 'gan', 'l1'): assert ours[k] == pytest.approx(theirs[k], abs=1e-5), k
    same(net, ref.net_G); same(critic, ref.net_D)

@pytest.mark.parametrize('grey', [False, True])
def test_colorize(grey, tmp_path):
    "A square picture with the photo's L (its first channel) and the net's ab"
    src, dst = bench.bench_photos(tmp_path, 1, 80, 60)[0], tmp_path/'out.png'
    if grey: Image.open(src).convert('L').save(src := tmp_path/'grey.png')
    bench.tutorial_colorize(lambda L: torch.cat([L*.1, -L*.2], 1), src, dst, size=32)
    L = np.asarray(Image.open(src).resize((32, 32)), float)
    L = (L if grey else L[...,0])/127.5 - 1
    want = lab2rgb(np.stack([(L + 1)*50, L*11, -L*22], -1))
    assert np.abs(np.asarray(Image.open(dst))/255 - want).max() < 2/255

# The rows

tiny = {'1': dict(size=32, bs=2, n=1), '2': dict(size=32, bs=2, n=1), '3': dict(size=32, bs=2, n=1), '4': dict(size=32, bs=2, width=80, height=60, n=1),
        '5': dict(size=32, bs=2), '6': dict(width=80, height=60, n=1, warm=0), '7': dict(width=80, height=60, photos=2, n=1),
        '8': dict(width=80, height=60, photos=2, n=1), '9': dict(width=80, height=60), '10': dict(size=32, pairs=2, n=1),
        '11': dict(size=32, batches=(2,), steps=2, n=1, workers=0)}

MINUTES = '5', '6', '7', '8', '9', '11' # many processes, or nets of their true size

@pytest.mark.parametrize('name', [pytest.param(n, marks=pytest.mark.slow) if n in MINUTES else n for n in bench.rows])
def test_row(name):
    lines = bench.rows[name].run(device='cpu', **tiny[name])
    assert lines
    for o in lines:
        assert list(o) == ['row', 'ours', 'baseline', 'ratio', 'unit'] and o['row'].split()[0] == name and o['unit']
        for k in ('ours', 'baseline', 'ratio'): assert math.isfinite(o[k]) and o[k] > 0, (name, o)
        assert o['ratio'] == pytest.approx(o['ours']/o['baseline'])

def test_the_command_of_rows_6_and_9():
    "It colors the bench's photo, which is in color"
    with bench._studio(1, 80, 60, weights=False) as d:
        said = bench._call('-c', bench._colorize, *bench._arguments(d/'in'/'0000.jpg', d/'out', 'cpu'))
        assert said.startswith('1 colorized') and (d/'out'/'0000.jpg').is_file()

def test_quick_arguments_fit():
    for name, o in bench.rows.items():
        sizes = inspect.signature(o.run).parameters
        assert set(o.quick) <= set(sizes) and all(v <= sizes[k].default for k,v in o.quick.items()), name

def test_both_sides_have_the_same_threads():
    before, seen = torch.get_num_threads(), []
    with bench._one_thread(): bench.interleave(1, ours=lambda: seen.append(torch.get_num_threads()), tutorial=lambda: seen.append(torch.get_num_threads()))
    assert set(seen) == {1} and torch.get_num_threads() == before

def test_interleave_counts_what_it_should():
    "In turn, medians, and without the first round"
    secs, calls = [100, 1000, 3, 10, 1, 90, 2, 20], [] # a b a b …
    clock = iter([o for s in secs for o in (0, s)])
    assert bench.interleave(3, clock=lambda: next(clock), a=lambda: calls.append('a'), b=lambda: calls.append('b')) == dict(a=2, b=20)
    assert ''.join(calls) == 'abababab'

# Table, JSON and command

@pytest.fixture
def fake(monkeypatch):
    "Three rows: one of two lines, one that fails, one for GPUs"
    monkeypatch.setattr(bench, 'rows', {})
    @bench._row('1', 'legs', '>= 2x', legs=6)
    def legs(device, legs=4): return [bench._line('1 legs', legs, 2, 'legs'), bench._line('1 wings', 1234., 1., 'wings')]
    @bench._row('2', 'broken', '')
    def broken(device): raise OSError('no\nbird')
    @bench._row('3', 'gpu', '', only='cuda')
    def gpu(device): return [bench._line('3 gpu', 1, 1, 's')]

def test_table_and_json(fake, tmp_path, capsys):
    assert bench.main(['--json', str(tmp_path/'x.json'), '--quick']) == 0
    *about, head, one, wings, two, three = capsys.readouterr().out.splitlines()
    assert head.split() == ['row', 'ours', 'baseline', 'ratio', 'unit', 'aim']
    assert one.split() == '1 legs 6 2 3 legs >= 2x'.split() and wings.split() == '1 wings 1,234 1 1,234 wings'.split()
    assert two.split() == '2 broken not run: no bird'.split() and three.split() == '3 gpu not run: needs --device cuda'.split()
    for w in ('cores', 'threads', f'torch {version("torch")}', 'scikit-image', 'fp32'): assert w in '\n'.join(about)
    nulls = dict(ours=None, baseline=None, ratio=None, unit='')
    assert json.loads((tmp_path/'x.json').read_text()) == [dict(row='1 legs', ours=6, baseline=2, ratio=3, unit='legs'),
        dict(row='1 wings', ours=1234, baseline=1, ratio=1234, unit='wings'), dict(row='2 broken', **nulls), dict(row='3 gpu', **nulls)]

def test_chosen_rows(fake, capsys):
    assert bench.chosen_rows('') == ['1', '2', '3'] and bench.chosen_rows('3, 1') == ['3', '1']
    assert bench.main(['--rows', '1']) == 0 and '1 legs' in (out := capsys.readouterr().out) and 'broken' not in out
    assert bench.main(['--rows', '2,3']) == 1
    with pytest.raises(ValueError, match="Unknown row 'x': choose among 1, 2, 3"): bench.chosen_rows('1,x')

@pytest.mark.parametrize('args,words', [(['--rows', '1,x'], "Unknown row 'x': choose among 1, 2"), (['--device', 'gpu'], "device 'gpu'"), (['--fast'], '--fast')])
def test_usage(args, words):
    "From the shell, as a process of its own with glibc's settings"
    r = module(*args, env={k: v for k,v in os.environ.items() if k not in bench.MALLOC})
    assert r.returncode == 2 and words in r.stderr and 'Traceback' not in r.stderr, r

def test_help_names_every_row():
    r = module('--help')
    assert r.returncode == 0 and not r.stderr
    for k, o in bench.rows.items(): assert o.what in r.stdout, k

def test_starts_light():
    code = 'import sys, colorize_fastai.bench; print({"torch", "fastai", "PIL", "numpy", "skimage", "timm"} & set(sys.modules))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == 'set()'

def test_a_child_that_fails_is_heard_of():
    with pytest.raises(RuntimeError, match='KeyError'): bench._child('no such child')
