"The command colorize as people use it: one file out, pipes, patterns, odd streams, Ctrl-C, reports; and what one file raises stays with it."
import csv, io, os, shutil, signal, stat, subprocess, sys, tempfile, time
from functools import partial
from pathlib import Path
import numpy as np, pytest
from PIL import Image, TiffImagePlugin
from colorize_fastai.cli import colorize
from colorize_fastai.photo import Photo, read_photo, sample_photos, save_photo

@pytest.fixture(scope='module')
def photo(tmp_path_factory):
    f = tmp_path_factory.mktemp('photo')/'old.jpg'
    Image.open(sample_photos(grey=True)['coins']).resize((96, 72)).save(f)
    return f

@pytest.fixture
def small(tiny_weights): return ['--weights', str(tiny_weights), '--size', '32', '--device', 'cpu']

def start(name, *args, **kw): return subprocess.Popen([Path(sys.executable).with_name(name), *map(str, args)], **kw)

def test_one_photo_to_one_file(photo, small, tmp_path, capsys):
    out = tmp_path/'deep'/'colored.png'
    assert colorize([str(photo), '-o', str(out), *small]) == 0 and out.is_file()
    assert colorize([str(photo), '-o', str(out), *small]) == 0 and '1 there already' in capsys.readouterr().out
    assert colorize([str(photo), str(sample_photos(grey=True)['moon']), '-o', str(out), *small]) == 2 and 'expected a folder' in capsys.readouterr().err
    copy = tmp_path/'mine.jpg'; copy.write_bytes(photo.read_bytes())
    assert colorize([str(copy), '-o', str(copy), '--overwrite', *small]) == 2 and copy.read_bytes() == photo.read_bytes() # the original stays

def test_pipes(photo, small, tmp_path):
    "Standard input and output, and a named pipe; the pixels are those of the plain command"
    data = photo.read_bytes()
    assert colorize([str(photo), '-o', str(tmp_path/'plain.png'), *small]) == 0
    def pixels(f): return np.asarray(Image.open(io.BytesIO(f) if isinstance(f, bytes) else f)).tobytes()
    want = pixels(tmp_path/'plain.png')
    def run(*args): return subprocess.run([Path(sys.executable).with_name('colorize'), *map(str, args), *small], input=data, capture_output=True)
    r = run('-', '-o', '-'); assert r.returncode == 0 and pixels(r.stdout) == want and not r.stderr
    r = run('-', '-o', tmp_path/'folder'); assert r.returncode == 0 and pixels(tmp_path/'folder'/'stdin.png') == want, r.stderr
    r = run('-', '-o', tmp_path/'named.png'); assert r.returncode == 0 and pixels(tmp_path/'named.png') == want
    r = run(photo, '-o', '-', '--format', 'jpg'); assert r.returncode == 0 and Image.open(io.BytesIO(r.stdout)).format == 'JPEG'
    named = (tmp_path/'named.png').stat().st_mtime_ns
    r = run('-', '-o', tmp_path/'named.png'); assert r.returncode == 2 and b'--overwrite' in r.stderr and (tmp_path/'named.png').stat().st_mtime_ns == named
    r = run('-', photo, '-o', '-'); assert r.returncode == 2 and b'one photo' in r.stderr
    r = subprocess.run(['bash', '-c', f'cat {photo} | {Path(sys.executable).with_name("colorize")} /dev/stdin -o {tmp_path}/dev {" ".join(small)}'], capture_output=True)
    assert r.returncode == 0 and pixels(tmp_path/'dev'/'stdin.png') == want, r.stderr
    r = subprocess.run([Path(sys.executable).with_name('colorize'), '-', '-o', '-', *small], input=b'no photo', capture_output=True)
    assert r.returncode == 2 and not r.stdout and len(r.stderr.splitlines()) == 1

def test_patterns_addresses_and_dashes(photo, small, tmp_path, monkeypatch, capsys):
    for n in ('a.jpg', 'b.jpg', '-dash.jpg', 'odd[1].jpg', 'odd1.jpg'): (tmp_path/n).write_bytes(photo.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert colorize(['[ab].jpg', '-o', 'one', *small]) == 0 and sorted(os.listdir('one')) == ['a.jpg', 'b.jpg']
    assert colorize(['odd[1].jpg', '-o', 'two', *small]) == 0 and os.listdir('two') == ['odd[1].jpg'] # a file of this name is no pattern
    assert colorize(['-o', 'three', *small, '--', '-dash.jpg']) == 0 and os.listdir('three') == ['-dash.jpg']
    assert colorize(['*.tif', '-o', 'four', *small]) == 2 and '*.tif' in capsys.readouterr().err
    assert colorize(['https://example.org/a.jpg', '-o', 'five', *small]) == 2
    err = capsys.readouterr().err; assert 'https://example.org/a.jpg: an address' in err and 'download' in err

def test_names_formats_reports(photo, small, tmp_path, capsys):
    (tmp_path/'in').mkdir()
    for n in ('a.jpg', 'b.png'): read_photo(photo).rgb.save(tmp_path/'in'/n)
    (tmp_path/'in'/'bad.jpg').write_bytes(b'\xff\xd8\xff')
    assert colorize([str(tmp_path/'in'), '-o', str(tmp_path/'out'), '--suffix', '_color', '--format', 'JPG', '--quality', '20', '--jobs', '1', '--report', str(tmp_path/'r.csv'), *small]) == 1
    assert sorted(os.listdir(tmp_path/'out')) == ['a_color.jpg', 'b_color.jpg']
    rows = list(csv.DictReader((tmp_path/'r.csv').open(encoding='utf-8')))
    assert [(Path(r['photo']).name, r['status'], r['width'], r['height']) for r in rows] == [('a.jpg', 'written', '96', '72'), ('b.png', 'written', '96', '72'), ('bad.jpg', 'failed', '', '')]
    assert all(float(r['seconds']) > 0 for r in rows[:2]) and 'damaged' in rows[2]['remark']
    assert colorize([str(photo), '-o', str(tmp_path/'y'), '--report', str(tmp_path/'nowhere'/'r.csv'), *small]) == 2 and 'make it first' in capsys.readouterr().err and not (tmp_path/'y').exists()
    assert colorize([str(photo), '-o', str(tmp_path/'x'), '--format', 'heic', *small]) == 2 and 'choose one of jpg' in capsys.readouterr().err

@pytest.mark.skipif(os.name != 'posix', reason='file modes')
def test_times_and_modes(photo, small, tmp_path):
    f = tmp_path/'private.jpg'; f.write_bytes(photo.read_bytes()); f.chmod(0o600); os.utime(f, (10**9, 10**9))
    open_ = tmp_path/'open.jpg'; open_.write_bytes(photo.read_bytes()); open_.chmod(0o666)
    assert colorize([str(f), str(open_), '-o', str(tmp_path/'out'), '--keep-times', *small]) == 0
    st = (tmp_path/'out'/'private.jpg').stat()
    assert stat.S_IMODE(st.st_mode) == 0o600 and st.st_mtime == 10**9
    mask = os.umask(0); os.umask(mask)
    assert stat.S_IMODE((tmp_path/'out'/'open.jpg').stat().st_mode) == 0o666 & ~mask # as any new file
    assert colorize([str(f), '-o', str(tmp_path/'now'), *small]) == 0 and (tmp_path/'now'/'private.jpg').stat().st_mtime > time.time() - 1000

def test_whatever_one_file_raises_stays_with_it(photo, small, tmp_path, monkeypatch, capsys):
    from colorize_fastai import album
    real = album.read_photo
    def read(src, *args):
        if isinstance(src, Path) and src.name == 'b.jpg': raise KeyError('odd')
        return real(src, *args)
    monkeypatch.setattr(album, 'read_photo', read)
    (tmp_path/'in').mkdir()
    for n in 'abc': (tmp_path/'in'/f'{n}.jpg').write_bytes(photo.read_bytes())
    assert colorize([str(tmp_path/'in'), '-o', str(tmp_path/'out'), *small]) == 1
    out, err = capsys.readouterr()
    assert '2 colorized' in out and '1 skipped' in out and "b.jpg: KeyError: 'odd'" in err and sorted(os.listdir(tmp_path/'out')) == ['a.jpg', 'c.jpg']

def test_metadata_that_cannot_be_written(small, tmp_path, capsys):
    "A BigTIFF with EXIF, which Pillow can read and not write: the picture comes out, and a line says what is missing"
    f = tmp_path/'big.tif'
    ifd = TiffImagePlugin.ImageFileDirectory_v2(); ifd[270] = 'a caption'
    Image.new('L', (40, 30), 99).save(f, big_tiff=True, tiffinfo=ifd)
    photo = read_photo(f)
    assert Image.open(f).tag_v2._bigtiff and photo.exif
    photo.exif = b'Exif\0\0' + photo.exif[:9] + b'\xff'*70_000 # and what no JPEG can hold
    save_photo(photo.rgb, tmp_path/'x.jpg', photo)
    assert Image.open(tmp_path/'x.jpg').size == (40, 30) and photo.remarks == ['a JPEG file cannot hold its EXIF']
    assert colorize([str(f), '-o', str(tmp_path/'out'), *small]) == 0
    assert Image.open(tmp_path/'out'/'big.tif').size == (40, 30)

@pytest.mark.parametrize('name,args', [('colorize', ['--help']), ('colorize-evaluate', ['--help']), ('colorize-train', ['--help']), ('colorize-sweep', ['--help'])])
def test_output_in_a_windows_code_page(name, args):
    r = subprocess.run([Path(sys.executable).with_name(name), *args], env={**os.environ, 'PYTHONIOENCODING': 'cp1252'}, capture_output=True)
    assert r.returncode == 0 and not r.stderr and len(r.stdout) > 500

def test_nobody_listens(photo, small, tmp_path):
    "Closed pipes and full disks for what is said: the photos are there, and the exit status says so"
    for i,(out, err) in enumerate([('/dev/full', '/dev/null'), ('/dev/full', '/dev/full')]):
        if not Path(out).exists(): pytest.skip('no /dev/full')
        with open(out, 'w') as o, open(err, 'w') as e: assert start('colorize', photo, '-o', tmp_path/str(i), *small, stdout=o, stderr=e).wait(60) == 0
        assert (tmp_path/str(i)/'old.jpg').exists()
    r, w = os.pipe(); os.close(r)
    p = start('colorize', photo, '-o', tmp_path/'pipe', *small, stdout=w, stderr=subprocess.PIPE); os.close(w)
    assert p.communicate(timeout=60)[1] == b'' and p.returncode == 0 and (tmp_path/'pipe'/'old.jpg').exists()

def test_interrupted(photo, small, tmp_path):
    "130, with what was written; the same command finishes"
    (tmp_path/'in').mkdir()
    for i in range(3000): (tmp_path/'in'/f'{i:04}.jpg').write_bytes(photo.read_bytes()) # so many that no machine is done before the signal
    heard = {} if os.name == 'nt' else dict(preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL)) # a shell's `command &` ignores Ctrl-C, and so would its children
    p = start('colorize', tmp_path/'in', '-o', tmp_path/'out', '--jobs', 1, *small, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard)
    while p.poll() is None and not list((tmp_path/'out').glob('*.jpg') if (tmp_path/'out').exists() else ()): pass
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    written = len(list((tmp_path/'out').glob('*.jpg')))
    assert p.returncode == 130 and 'Traceback' not in err and 'stopped' in err and 'colorized ->' in err and 0 < written < 3000
    for f in (tmp_path/'out').iterdir(): Image.open(f).load()
    assert not list((tmp_path/'out').glob('.*'))

def test_versions(command):
    from colorize_fastai import __version__
    for name in ('colorize', 'colorize-train', 'colorize-evaluate', 'colorize-sweep'): assert __version__ in command(name, '--version').stdout
    r = subprocess.run([sys.executable, '-m', 'colorize_fastai', '--version'], capture_output=True, text=True)
    assert r.stdout.startswith('colorize ') and __version__ in r.stdout

@pytest.mark.skipif(not hasattr(os, 'fork'), reason='no fork here')
@pytest.mark.parametrize('large', ['0', '1'])
def test_after_a_fork(photo, tiny_weights, tmp_path, large):
    "A server that loads the weights and then forks: the child colors, too, though a thread of the parent is at the table of large photos"
    code = '''import os, sys
from colorize_fastai import Colorizer, inference
if sys.argv[3] == '1': inference.MANY = 1
c = Colorizer(sys.argv[1], 'cpu', 256)
first = c(sys.argv[2])
if sys.argv[3] == '1':
    inference._one_table.cache_clear() # an empty one, that is being filled
    inference._one_table().lock.acquire()
pid = os.fork()
if not pid: os._exit(0 if c(sys.argv[2]).tobytes() == first.tobytes() else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))'''
    r = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, tiny_weights, photo, large], timeout=100,
        env={**os.environ, 'OMP_NUM_THREADS': '2'})
    assert r.returncode == 0

def test_everything_in_a_folder_is_accounted_for(photo, small, tmp_path, capsys):
    "HEIC and AVIF are read; what is passed over is counted by kind, and images among it are a status of 1; unreadable folders and broken links are named"
    import pillow_heif
    d = tmp_path/'album'; (d/'sub').mkdir(parents=True)
    rgb = read_photo(photo).rgb
    rgb.save(d/'a.jpg'); rgb.save(d/'b.avif'); pillow_heif.from_pillow(rgb).save(d/'c.heic'); rgb.save(d/'sub'/'d.jpg')
    (d/'notes.txt').write_text('x'); (d/'Thumbs.db').write_bytes(b'\0'*9)
    def run(): status = colorize([str(d), '-o', str(tmp_path/'out'), '--overwrite', *small]); return status, *capsys.readouterr()
    status, out, err = run()
    assert status == 0 and '4 colorized' in out and '2 other files left out: .db 1, .txt 1' in ' '.join(sorted(err.split('\n'))), err
    assert sorted(p.relative_to(tmp_path/'out').as_posix() for p in (tmp_path/'out').rglob('*.*')) == ['a.jpg', 'b.png', 'c.png', 'sub/d.jpg']
    rgb.save(d/'nameless', 'JPEG'); (d/'raw.CR2').write_bytes(b'II*\0')
    status, out, err = run()
    assert status == 1 and '4 other files left out' in err and 'images among them: 2' in err
    assert colorize([str(d/'nameless'), '-o', str(tmp_path/'one'), *small]) == 0 and (tmp_path/'one'/'nameless.png').exists() # named outright, it is read
    capsys.readouterr()
    if os.name == 'posix':
        for o in ('nameless', 'raw.CR2'): (d/o).unlink()
        os.symlink(d/'nothing.jpg', d/'gone.jpg'); os.symlink(d, d/'sub'/'loop')
        status, out, err = run()
        assert status == 1 and '4 colorized' in out and 'gone.jpg: cannot be opened (a link to nothing)' in err

@pytest.mark.skipif(os.name != 'posix' or os.geteuid() != 0, reason='needs another user')
def test_unreadable_folders(photo):
    "Another user may not open one of two folders: it is named with the reason, and the other is looked through; alone, the reason is the true one"
    tmp_path = Path(tempfile.mkdtemp(dir='/tmp')) # pytest's own folders are closed to others
    for n in 'ab': (tmp_path/n).mkdir(); (tmp_path/n/'p.jpg').write_bytes(photo.read_bytes())
    tmp_path.chmod(0o755); (tmp_path/'b').chmod(0)
    from colorize_fastai.photo import look_through, photo_files
    if os.fork() == 0:
        ok = False
        try:
            os.setgroups([]); os.setgid(65534); os.setuid(65534)
            found = look_through(tmp_path)
            ok = [p.name for p in found.photos] == ['p.jpg'] and [(p.name, why) for p,why in found.unreadable] == [('b', 'Permission denied')]
            try: photo_files(tmp_path/'b')
            except ValueError as e: ok = ok and 'cannot be opened (Permission denied)' in str(e)
            else: ok = False
        finally: os._exit(0 if ok else 1)
    status = os.waitstatus_to_exitcode(os.wait()[1])
    (tmp_path/'b').chmod(0o755); shutil.rmtree(tmp_path)
    assert status == 0
