"What is no photo, or hardly one: alone it is an error in a line, in a batch it is passed over"
import io
import numpy as np, pytest
from PIL import Image
from colorize_fastai import cli
from colorize_fastai.photo import PhotoError, read_photo

def packed(im, fmt='JPEG', **kw):
    b = io.BytesIO(); im.save(b, fmt, **kw)
    return b.getvalue()

noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (120,160), np.uint8))
jpg, png, tif, gif, webp = (packed(noise, f) for f in ('JPEG', 'PNG', 'TIFF', 'GIF', 'WEBP'))
bad = {
    'empty.jpg': (b'', 'an empty file'), 'page.jpg': (b'<!DOCTYPE html><html>404</html>', 'a web page'), 'notes.png': (b'milk, bread, film', "starts with b'milk, br'"),
    'zeros.jpg': (bytes(5000), 'starts with'), 'phone.jpg': (b'\0\0\0\x18ftypheic' + bytes(500), 'a HEIC file'), 'scan.jpg': (b'%PDF-1.7\n' + bytes(99), 'a PDF'),
    'program.tif': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n', 'starts with'),
    'half.jpg': (jpg[:len(jpg)//2], 'cut short'), 'half.png': (png[:len(png)//2], 'cut short'), 'half.webp': (webp[:len(webp)//2], 'a WebP file, but damaged'),
    'half.gif': (gif[:len(gif)//2], 'cut short'), 'half.tif': (tif[:len(tif)//2], 'cut short'), 'head.jpg': (jpg[:20], 'a JPEG file, but damaged or cut short'), 'head.png': (png[:12], 'a PNG file, but damaged or cut short'),
    'huge.pgm': (b'P5 30000 20000 255\n', 'at most 300 million'), 'text.png.jpg': (b'\xef\xbb\xbfhello', 'starts with'),
}
good = {'1x1.png': (1,1), '1x1.jpg': (1,1), 'long.png': (20_000,10), 'tall.jpg': (10,20_000), '60MP.jpg': (10_000,6000)}

@pytest.mark.parametrize('name', bad)
def test_no_photo(name, tmp_path):
    data, words = bad[name]; f = tmp_path/name; f.write_bytes(data)
    for min_side in (None, 64):
        with pytest.raises(PhotoError) as e: read_photo(f, min_side)
        msg = str(e.value)
        assert words in msg and msg.startswith(str(f)) and '\n' not in msg and len(msg) < 300 + len(str(f))
    assert e.value.__cause__ is None and (e.value.__context__ is None or e.value.__suppress_context__)  # a line, not a chain of them
    with pytest.raises(PhotoError, match='bytes: '): read_photo(data)

@pytest.mark.parametrize('name', good)
def test_hardly_a_photo(name, tmp_path):
    Image.new('L', good[name], 130).save(tmp_path/name)
    p = read_photo(tmp_path/name)
    assert p.rgb.size == good[name] and p.rgb.getpixel((0,0)) == (130,130,130)
    if name == '60MP.jpg': assert read_photo(tmp_path/name, 256).rgb.size == (1250,750)

def test_places(tmp_path):
    with pytest.raises(PhotoError, match='a folder, expected one photo'): read_photo(tmp_path)
    with pytest.raises(PhotoError, match='no such file'): read_photo(tmp_path/'none.jpg')
    with pytest.raises(PhotoError, match='cannot be opened'): read_photo(tmp_path/('x'*400 + '.jpg'))
    (tmp_path/'loop.jpg').symlink_to(tmp_path/'loop.jpg')
    with pytest.raises(PhotoError, match='loop.jpg'): read_photo(tmp_path/'loop.jpg')
    with pytest.raises(PhotoError, match='cannot be opened'): read_photo('a\0b.jpg')
    with pytest.raises(TypeError, match='got NoneType'): read_photo(None)

@pytest.mark.filterwarnings('ignore::UserWarning')  # Pillow's, about the damage
@pytest.mark.parametrize('seed', range(3))
def test_damaged_anywhere(seed):
    "Files with random bytes changed either read or raise PhotoError, never anything else"
    rng, n = np.random.default_rng(seed), 0
    for raw in (jpg, png, tif, gif, webp):
        for _ in range(20):
            b = np.frombuffer(raw, np.uint8).copy(); at = rng.integers(0, min(len(b), rng.choice([64, len(b)])), 8)
            b[at] = rng.integers(0, 256, 8)
            try: read_photo(b.tobytes(), 32)
            except PhotoError as e: n += 1; assert '\n' not in str(e)
    assert n > 10

def test_batch(command, tiny_weights, tmp_path):
    "All of it in one run: every bad file is reported in a line, every good one is written"
    album, out = tmp_path/'album', tmp_path/'out'; album.mkdir()
    for n,(data,_) in bad.items(): (album/n).write_bytes(data)
    for n,size in good.items(): Image.new('L', size, 130).save(album/n)
    (album/'1x1.jpg').rename(album/'ünïcode name.JPG')
    r = command('colorize', album, tmp_path/'nowhere', '-o', out, '--weights', tiny_weights, '--size', 64)
    assert r.returncode == 1 and 'Traceback' not in r.stderr, r.stderr
    lines = r.stderr.splitlines()
    assert len(lines) == len(bad) + 1 and all(l.startswith('skipped ') for l in lines), r.stderr
    for n,(_,words) in bad.items(): assert any(n in l and words in l for l in lines), n
    assert r.stdout.strip() == f'{len(good)} colorized -> {out}, {len(bad) + 1} skipped'
    sizes = {}
    for p in out.iterdir():
        with Image.open(p) as im: sizes[p.name] = im.size
    assert sizes == {'ünïcode name.JPG' if n == '1x1.jpg' else n: s for n,s in good.items()}

def test_only_bad(tiny_weights, tmp_path, capsys):
    (tmp_path/'a.jpg').write_bytes(jpg[:500])
    assert cli.colorize([str(o) for o in (tmp_path/'a.jpg', '-o', tmp_path/'out', '--weights', tiny_weights)]) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and 'a.jpg: damaged or cut short' in err[0] and not (tmp_path/'out').exists()
