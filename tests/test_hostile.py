"Files that want to break it: each comes out in color, or is named with a reason; nothing else happens"
import io, os, random, struct, subprocess, sys, zlib
from pathlib import Path
import numpy as np, pytest
from PIL import Image
from colorize_fastai.cli import colorize
from colorize_fastai.photo import sample_photos

@pytest.fixture(scope='module')
def small(tiny_weights): return ['--weights', str(tiny_weights), '--size', '32', '--device', 'cpu']

grey = Image.open(sample_photos(grey=True)['coins']).resize((64, 48))
kinds = dict(JPEG='jpg', PNG='png', TIFF='tif', WEBP='webp', GIF='gif', BMP='bmp', AVIF='avif', JPEG2000='jp2')
def packed(im, fmt, **kw): b = io.BytesIO(); im.save(b, fmt, **kw); return b.getvalue()
whole = {fmt: packed(grey, fmt) for fmt in kinds}

def chunk(name, data): return struct.pack('>L', len(data)) + name + data + struct.pack('>L', zlib.crc32(name + data))
def png(w, h, data, *more, depth=8, kind=0):
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>2L5B', w, h, depth, kind, 0, 0, 0)) + b''.join(more) + chunk(b'IDAT', data) + chunk(b'IEND', b'')

def truncated(): return {f'cut{i}.{end}': whole[fmt][:len(whole[fmt])*i//10] for fmt,end in kinds.items() for i in range(10)}

def flipped(n=12):
    "One bit of the first hundred bytes is another"
    rng, res = random.Random(0), {}
    for fmt,end in kinds.items():
        for i in range(n):
            raw = bytearray(whole[fmt])
            raw[rng.randrange(100)] ^= 1 << rng.randrange(8)
            res[f'flip{i}.{end}'] = bytes(raw)
    return res

def odd():
    flat = zlib.compress(bytes(65*48))
    bomb = zlib.compress(bytes(10**8))
    rgb = np.random.default_rng(0).integers(0, 256, (48,64,4)).astype(np.uint8)
    palette = grey.convert('P'); palette.info['transparency'] = 3
    return {'empty.jpg': b'', 'one.png': b'\x89', 'zeros.tif': bytes(5000), 'text.jpg': 'milk, bread'.encode(), 'page.png': b'<!DOCTYPE html><p>404',
        'png.jpg': whole['PNG'], 'jpg.tif': whole['JPEG'], 'huge.png': png(100_000, 100_000, flat), 'wide.png': png(2**31 - 1, 1, flat),
        'nothing.png': png(0, 0, flat), 'bomb.png': png(64, 48, bomb), 'short.png': png(64, 48, flat[:20]), 'depth.png': png(64, 48, flat, depth=3),
        'words.png': png(64, 48, flat, chunk(b'zTXt', b'a\0\0' + zlib.compress(b'x'*10**8))), 'icc.png': png(64, 48, flat, chunk(b'iCCP', b'x\0\0' + zlib.compress(b'no profile'))),
        'exif.png': png(64, 48, flat, chunk(b'eXIf', b'MM\0*\xff\xff\xff\xff')), 'xmp.png': packed(grey, 'PNG', pnginfo=words('XML:com.adobe.xmp', '<x' + '&lol;'*99)),
        'bit.png': packed(grey.convert('1'), 'PNG'), 'float.tif': packed(Image.fromarray(np.linspace(0, 1, 48*64, dtype=np.float32).reshape(48,64)), 'TIFF'),
        'far.tif': packed(Image.fromarray(np.linspace(-9, 900, 48*64, dtype=np.float32).reshape(48,64)), 'TIFF'),
        'nan.tif': packed(Image.fromarray(np.full((48,64), np.nan, np.float32)), 'TIFF'), 'int.tif': packed(Image.fromarray(np.arange(48*64, dtype=np.int32).reshape(48,64)), 'TIFF'),
        'cmyk.jpg': packed(grey.convert('CMYK'), 'JPEG'), 'cmyk.tif': packed(grey.convert('CMYK'), 'TIFF'), 'lab.tif': packed(grey.convert('RGB').convert('LAB'), 'TIFF'),
        'rgba.png': packed(Image.fromarray(rgb), 'PNG'), 'la.png': packed(grey.convert('LA'), 'PNG'), 'palette.png': packed(palette, 'PNG', transparency=3), 'clear.gif': packed(palette, 'GIF', transparency=3),
        'deep.png': packed(Image.fromarray(np.arange(48*64, dtype=np.uint16).reshape(48,64)), 'PNG'), 'pixel.png': packed(Image.new('L', (1,1)), 'PNG'),
        'line.png': packed(Image.new('L', (3000,1), 99), 'PNG'), 'loop.tif': looped(), 'zip.jpg': b'PK\3\4' + bytes(99), 'new\nline.png': whole['PNG'], ' .png': whole['PNG'], 'ö…写.png': whole['PNG'],
        'x'*240 + '.png': whole['PNG'], 'comment.jpg': packed(grey, 'JPEG', comment=b'\xff\0\x80'*99), 'nested.jpg': whole['JPEG'][:-2] + whole['JPEG']}

def as_mode(mode):
    "`grey` in one of Pillow's modes"
    if mode in ('LAB', 'HSV', 'YCbCr'): return grey.convert('RGB').convert(mode)
    if mode in ('La', 'PA'): return grey.convert('LA').convert(mode)
    if mode == 'RGBa': return grey.convert('RGBA').convert(mode)
    if mode == 'F': return grey.convert('F').point(lambda x: x/255 + 0)
    return grey.convert('I').convert(mode) if mode.startswith('I') else grey.convert(mode)

def words(k, v):
    from PIL.PngImagePlugin import PngInfo
    info = PngInfo(); info.add_itxt(k, v)
    return info

def looped():
    "A TIFF whose directory is followed by itself"
    raw = bytearray(whole['TIFF'])
    at, = struct.unpack('<L', raw[4:8])
    n, = struct.unpack('<H', raw[at:at+2])
    raw[at + 2 + 12*n:at + 6 + 12*n] = struct.pack('<L', at)
    return bytes(raw)

def check(files, small, tmp_path, capsys):
    "(names of those in color, what was said): every file is one or the other, and what is there is whole"
    (tmp_path/'in').mkdir()
    for name,raw in files.items(): (tmp_path/'in'/name).write_bytes(raw)
    status, out = colorize([str(tmp_path/'in'), '-o', str(tmp_path/'out'), *small, '--report', str(tmp_path/'r.csv'), '--in-color', 'recolor']), capsys.readouterr()
    import csv
    rows = {Path(r['photo']).name: r for r in csv.DictReader(open(tmp_path/'r.csv', newline='', encoding='utf-8', errors='surrogateescape'))}
    assert set(rows) == set(files) and {r['status'] for r in rows.values()} <= {'written', 'failed'}
    for name,r in rows.items():
        if r['status'] == 'failed': assert r['remark'] and name.splitlines()[0] in r['remark'], r
        else: Image.open(r['result']).load()
    assert {str(p) for p in (tmp_path/'out').rglob('*') if p.is_file() and p.name != '.colorize.jsonl'} == {r['result'] for r in rows.values() if r['status'] == 'written'}
    assert 'Traceback' not in out.err and len(out.err.splitlines()) <= 2*len(files) + 2
    assert status == {0: 2, len(rows): 0}.get(sum(r['status'] == 'written' for r in rows.values()), 1)
    assert all(p.read_bytes() == files[p.name] for p in (tmp_path/'in').iterdir())
    return {n for n,r in rows.items() if r['status'] == 'written'}

def test_cut_short(small, tmp_path, capsys):
    assert len(truncated()) == 80
    done = check(truncated(), small, tmp_path, capsys)
    assert len(done) <= 2

def test_flipped_bits(small, tmp_path, capsys): assert 20 < len(check(flipped(), small, tmp_path, capsys)) < 96

def test_odd_files(small, tmp_path, capsys):
    files = odd()
    assert len(files) >= 40
    done = check(files, small, tmp_path, capsys)
    assert done >= {'png.jpg', 'jpg.tif', 'bit.png', 'float.tif', 'int.tif', 'cmyk.jpg', 'cmyk.tif', 'lab.tif', 'rgba.png', 'la.png', 'palette.png', 'clear.gif', 'deep.png', 'pixel.png',
                    'line.png', 'new\nline.png', 'ö…写.png', 'comment.jpg', 'xmp.png', 'exif.png', 'icc.png'}
    assert not done & {'empty.jpg', 'one.png', 'zeros.tif', 'text.jpg', 'page.png', 'huge.png', 'wide.png', 'nothing.png', 'short.png', 'far.tif', 'nan.tif', 'zip.jpg'}

def test_whatever_pillow_writes(small, tmp_path, capsys):
    "Each kind of file that is colored, in each of Pillow's modes that it can hold"
    files = {}
    for fmt,end in (kinds | dict(PPM='ppm', HEIF='heic')).items():
        for mode in ('1', 'L', 'LA', 'La', 'P', 'PA', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV', 'I', 'I;16', 'I;16B', 'F'):
            try: raw = packed(as_mode(mode), fmt); Image.open(io.BytesIO(raw)).load()
            except (OSError, ValueError, KeyError, SystemError): continue # this kind cannot hold it
            files[f'{mode.replace(";", "_")}.{end}'] = raw
    assert len(files) >= 50 and {'I_16.tif', 'CMYK.jpg', 'PA.png', 'RGBA.webp', 'F.tif'} & set(files)
    assert check(files, small, tmp_path, capsys) == set(files)

@pytest.mark.skipif(os.name != 'posix', reason='file systems of its own')
def test_links_and_names_that_are_no_text(small, tmp_path, capsys):
    d = tmp_path/'in'; (d/'sub').mkdir(parents=True)
    (d/'sub'/'a.png').write_bytes(whole['PNG'])
    (d/'sub'/'up').symlink_to(d)
    (d/'self.png').symlink_to('self.png')
    (d/'gone.png').symlink_to('nowhere.png')
    with open(os.fsencode(d) + b'/\xff\xfe.png', 'wb') as f: f.write(whole['PNG'])
    assert colorize([str(d), '-o', str(tmp_path/'out'), *small]) == 1
    assert sorted(os.listdir(os.fsencode(tmp_path/'out'))) == [b'sub', b'\xff\xfe.png']
    err = capsys.readouterr().err
    assert 'gone.png' in err and 'self.png' in err and len(err.splitlines()) == 2
    assert colorize([str(d), '-o', str(tmp_path/'out'), *small]) == 1 and '2 there already' in capsys.readouterr().out

@pytest.mark.skipif(os.name != 'posix', reason='limits of a process')
def test_no_room_for_the_result(small, tmp_path):
    "The disk is full in the middle of the second photo: the first is there, the others are named, and nothing is half there"
    (tmp_path/'in').mkdir()
    grey.resize((32, 24)).save(tmp_path/'in'/'a.png')
    for n in 'bc': Image.fromarray(np.random.default_rng(0).integers(0, 256, (400,600)).astype(np.uint8)).save(tmp_path/'in'/f'{n}.png')
    code = 'import resource, sys, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from colorize_fastai.cli import colorize; ' \
        'resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); sys.exit(colorize(sys.argv[1:]))'
    r = subprocess.run([sys.executable, '-c', code, str(tmp_path/'in'), '-o', str(tmp_path/'out'), *small], capture_output=True, text=True)
    assert r.returncode == 1 and os.listdir(tmp_path/'out') == ['a.png'], r.stderr
    assert r.stderr.count('cannot be written') == 2 and '1 colorized' in r.stdout

def test_out_that_cannot_be(small, tmp_path, capsys):
    (tmp_path/'a.png').write_bytes(whole['PNG'])
    (tmp_path/'file').write_text('x')
    assert colorize([str(tmp_path/'a.png'), '-o', str(tmp_path/'file'/'out'), *small]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1

def test_pictures_of_other_kinds_are_told_of(small, tmp_path, capsys):
    "A Targa file is no photo that is read, but it is a picture: it is counted as one, and the exit status says so"
    (tmp_path/'in').mkdir()
    grey.save(tmp_path/'in'/'a.png'); grey.save(tmp_path/'in'/'scan.tga'); (tmp_path/'in'/'list.txt').write_text('a scan')
    assert colorize([str(tmp_path/'in'), '-o', str(tmp_path/'out'), *small]) == 1
    assert 'images among them: 1' in capsys.readouterr().err
