"The command colorize, as a process of its own"
import os, platform, subprocess, sys
import numpy as np, pytest
from PIL import ExifTags, Image
from colorize_fastai import cli
from colorize_fastai.photo import GREY_SAMPLES, SAMPLES, read_photo, sample_photos

def fails(r, status, *words):
    "`r` failed in words: the status, no traceback, and nothing but lines that help"
    assert r.returncode == status, (r.returncode, r.stdout, r.stderr)
    assert 'Traceback' not in r.stderr + r.stdout
    for w in words: assert w in r.stderr, (w, r.stderr)

def test_help(command):
    r = command('colorize', '--help')
    assert r.returncode == 0
    for w in ('PHOTO_OR_FOLDER', '--samples', '--weights', '--saturation', '--overwrite', 'examples:', 'exit status'): assert w in r.stdout

def test_starts_light():
    code = 'import sys, colorize_fastai.cli; print({"torch", "fastai", "PIL", "numpy"} & set(sys.modules))'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout.strip() == 'set()'

def test_colors_without_libraries_that_start_slowly(album, tiny_weights, tmp_path):
    code = f"import sys; from colorize_fastai.cli import colorize; colorize({[str(album), '-o', str(tmp_path/'out'), '--weights', str(tiny_weights)]}); print({{'timm', 'torchvision', 'fastai', 'skimage', 'pandas', 'matplotlib'}} & set(sys.modules))"
    r = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert r.stdout.splitlines() == [f'3 colorized -> {tmp_path/"out"}', 'set()'], r

state = 'gc.isenabled(), gc.get_freeze_count() > 0, *(os.environ.get(k) for k in MALLOC)'

@pytest.mark.parametrize('name,args,status', [('colorize', ['nowhere.jpg'], 2), ('colorize_train', ['nowhere', '--out', 'run', '--preset', 'best'], 2)])
@pytest.mark.parametrize('by', ['shell', pytest.param('python', marks=pytest.mark.slow)])
def test_a_process_of_its_own(name, args, status, by, tmp_path):
    "Memory is kept for commands from the shell, and nothing in the process of whoever calls the function from Python is changed"
    code = f"import gc, os, sys; from colorize_fastai.cli import *; from colorize_fastai.cli import MALLOC; print({name}({'sys.argv[1:]'*(by == 'python')}), {state})"
    env = {k: v for k,v in os.environ.items() if k not in cli.MALLOC} | {'MALLOC_TOP_PAD_': '9'}
    r = subprocess.run([sys.executable, '-c', code, *args], capture_output=True, text=True, env=env, cwd=tmp_path)
    kept = ('0', '-1', '9') if by == 'shell' and platform.libc_ver()[0] == 'glibc' else (None, None, '9')
    assert r.stdout.splitlines()[-1] == ' '.join(map(str, (status, True, by == 'shell' and name == 'colorize', *kept))), r

def test_samples(command, tiny_weights, tmp_path):
    "The first command of the home page, and then again"
    r = command('colorize', '--samples', '-o', 'colorized', '--weights', tiny_weights, '--size', 64, cwd=tmp_path)
    assert r.returncode == 0 and r.stdout.strip() == f'{len(SAMPLES) + len(GREY_SAMPLES)} colorized -> colorized' and not r.stderr, r
    for k,p in {**sample_photos(), **sample_photos(grey=True)}.items():
        with Image.open(tmp_path/'colorized'/p.name) as a, Image.open(p) as b: assert a.size == b.size and a.mode == 'RGB', k

@pytest.fixture
def album(tmp_path):
    ex = Image.Exif(); ex[ExifTags.Base.Orientation] = 6; ex[ExifTags.Base.Artist] = 'Aunt May'
    ramp = Image.linear_gradient('L').resize((60,40))
    for n,im in {'a.jpg': ramp, 'sub/b.png': Image.merge('RGBA', [ramp]*4), 'c.gif': ramp.convert('P')}.items():
        (tmp_path/'album'/n).parent.mkdir(parents=True, exist_ok=True)
        im.save(tmp_path/'album'/n, **({} if n == 'c.gif' else dict(exif=ex)))
    return tmp_path/'album'

def run(capsys, *args):
    status = cli.colorize([str(o) for o in args]); says = capsys.readouterr()
    return status, says.out.strip(), says.err.strip()

def test_album(album, tiny_weights, tmp_path, capsys):
    "Once as it is meant, then again, then in place of the first"
    before, out = {p: p.read_bytes() for p in album.rglob('*.*')}, tmp_path/'out'
    args = album, '-o', out, '--weights', tiny_weights, '--size', 64
    assert run(capsys, *args) == (0, f'3 colorized -> {out}', '')
    a, b = read_photo(out/'a.jpg'), read_photo(out/'sub/b.png')
    assert a.rgb.size == b.rgb.size == (40,60) and b'Aunt May' in a.exif and b'Aunt May' in b.exif and b.alpha.tobytes() == read_photo(album/'sub/b.png').alpha.tobytes()
    assert np.ptp(np.asarray(b.rgb).astype(int), axis=2).max() > 3
    assert (out/'c.png').is_file()
    time = (out/'a.jpg').stat().st_mtime_ns
    assert run(capsys, *args) == (0, f'0 colorized -> {out}, 3 there already (--overwrite replaces them)', '')
    assert (out/'a.jpg').stat().st_mtime_ns == time
    assert run(capsys, *args, '--overwrite') == (0, f'3 colorized -> {out}', '')
    assert (out/'a.jpg').stat().st_mtime_ns > time
    assert all(p.read_bytes() == o for p,o in before.items())

def test_options_reach_the_colorizer(album, tiny_weights, tmp_path, capsys):
    run(capsys, album/'a.jpg', '--saturation', 0, album/'c.gif', '-o', tmp_path/'grey', '--weights', tiny_weights, '--size', 32, '--device', 'cpu')
    assert np.ptp(np.asarray(read_photo(tmp_path/'grey/c.png').rgb).astype(int), axis=2).max() <= 1
    run(capsys, album/'c.gif', '-o', tmp_path/'color', '--weights', tiny_weights, '--size', 32)
    assert np.ptp(np.asarray(read_photo(tmp_path/'color/c.png').rgb).astype(int), axis=2).max() > 3

def test_progress_only_on_a_terminal(album, tiny_weights, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, 'isatty', lambda: True)
    status, out, err = run(capsys, album, '-o', tmp_path/'out', '--weights', tiny_weights, '--size', 32)
    assert status == 0 and f"[{'#'*30}] 3/3" in err and '1/3' in err

def test_no_number(capsys):
    assert cli.colorize(['x.jpg', '--size', 'big']) == 2 and "--size: got 'big'" in capsys.readouterr().err
    assert cli.colorize(['x.jpg', '--saturation', '1,2']) == 2 and 'can only be compared' in capsys.readouterr().err

@pytest.mark.parametrize('args,words', [([], ['no photos given']), (['x.jpg', '--colour', '2'], ['--colour']), (['-o'], ['expected one argument'])])
def test_usage(args, words, capsys):
    with pytest.raises(SystemExit) as e: cli.colorize(args)
    assert e.value.code == 2
    err = capsys.readouterr().err
    for w in words: assert w in err

@pytest.mark.parametrize('args,words', [(['--size', 0], 'expected whole pixels'), (['--saturation', -1], 'saturation -1'), (['--saturation', 'nan'], 'saturation nan'), (['--vividness', 2], 'vividness 2'), (['--device', 'gpu'], "device 'gpu'")])
def test_bad_values(args, words, album, tiny_weights, tmp_path, capsys):
    status, out, err = run(capsys, album, '-o', tmp_path/'out', '--weights', tiny_weights, *args)
    assert status == 2 and words in err and '\n' not in err and not (tmp_path/'out').exists()

def test_bad_places(album, tiny_weights, tmp_path, capsys):
    (tmp_path/'empty').mkdir(); (tmp_path/'notes.safetensors').write_text('not weights')
    w = '--weights', tiny_weights
    assert 'no photo in this folder' in run(capsys, tmp_path/'empty', '-o', tmp_path/'out', *w)[2]
    assert 'no such file or folder' in run(capsys, tmp_path/'nowhere', '-o', tmp_path/'out', *w)[2]
    assert 'expected a folder for the results' in run(capsys, album, '-o', album/'a.jpg', *w)[2]
    assert 'would overwrite an original' in run(capsys, album/'a.jpg', '-o', album, *w)[2]
    for bad,words in (('none', 'No weights at none'), (tmp_path/'notes.safetensors', 'notes.safetensors')):
        status, out, err = run(capsys, album, '-o', tmp_path/'out', '--weights', bad)
        assert status == 2 and words in err and '\n' not in err

def test_no_traceback_from_the_shell(command, tmp_path):
    fails(command('colorize', '--samples', tmp_path/'nowhere.jpg', '-o', tmp_path/'out', '--weights', 'no_such'), 2, 'colorize: No weights at no_such')
    assert not (tmp_path/'out').exists()
