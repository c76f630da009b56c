"Albums: results know their photos, photos in color are left alone, pages, depth and metadata stay, many processes share the work"
import io, os, pickle, shutil, struct, subprocess, sys, threading, time
import xml.etree.ElementTree as ET
from pathlib import Path
import numpy as np, pytest, tifffile, torch
from PIL import Image, ImageCms, ImageOps
from PIL.PngImagePlugin import PngInfo
from skimage.color import rgb2lab
from colorize_fastai import album as room
from colorize_fastai.album import colorize_files, plan_files
from colorize_fastai.cli import colorize
from colorize_fastai.inference import Colorizer
from colorize_fastai.marks import SOURCE_TYPE, mark_of, with_mark
from colorize_fastai.nature import find_frame, in_color
from colorize_fastai.photo import PhotoError, file_xmp, read_photo, read_rgb, sample_photos, save_photo

old = Image.open(sample_photos(grey=True)['coins']).convert('L').resize((96, 72))
command = Path(sys.executable).with_name('colorize')

@pytest.fixture
def small(tiny_weights): return ['--weights', str(tiny_weights), '--size', '32', '--device', 'cpu']

def vary(i): return old.point(lambda v: min(255, v + i))
def names(d): return sorted(p.relative_to(d).as_posix() for p in d.rglob('*') if p.is_file() and not p.name.startswith('.'))

# A result knows what it was made from

def test_two_albums_with_the_same_names(small, tmp_path, capsys):
    "Neither is taken for the other, in any order, and nothing is made twice"
    for k,box in enumerate(('box1', 'box2')):
        (tmp_path/box).mkdir()
        for n in '12': vary(20*k + int(n)).save(tmp_path/box/f'scan{n}.png')
    for box in ('box1', 'box2'): assert colorize([str(tmp_path/box), '-o', str(tmp_path/'out'), *small]) == 0
    assert names(tmp_path/'out') == ['scan1-2.png', 'scan1.png', 'scan2-2.png', 'scan2.png']
    L = lambda f: rgb2lab(np.asarray(read_rgb(f)))[...,0]
    for k,end in ((0, ''), (1, '-2')):
        for n in '12': assert np.abs(L(tmp_path/'out'/f'scan{n}{end}.png') - L(tmp_path/f'box{k+1}'/f'scan{n}.png')).max() < 1.2
    before = {p: p.stat().st_mtime_ns for p in (tmp_path/'out').iterdir()}
    for box in ('box2', 'box1'): assert colorize([str(tmp_path/box), '-o', str(tmp_path/'out'), *small]) == 0
    assert capsys.readouterr().out.count('2 there already') == 2 and before == {p: p.stat().st_mtime_ns for p in (tmp_path/'out').iterdir()}
    assert colorize([str(tmp_path/'box2'), '-o', str(tmp_path/'out'), '--overwrite', *small]) == 0 # replaces its own, not those of box1
    after = {p: p.stat().st_mtime_ns for p in (tmp_path/'out').iterdir()}
    assert sorted(p.name for p in after if after[p] != before[p]) == ['scan1-2.png', 'scan2-2.png']

@pytest.mark.parametrize('suffix', ['png', 'jpg', 'tif', 'webp', 'bmp'])
@pytest.mark.parametrize('more', [[], ['--no-mark']])
def test_made_anew_when_photo_or_settings_change(small, tmp_path, capsys, suffix, more):
    f, out = tmp_path/f'a.{suffix}', tmp_path/'out'
    old.save(f)
    def run(*args):
        status = colorize([str(f), '-o', str(out), *small, *more, *args])
        said = capsys.readouterr().out
        return status, said[0], 'there already' in said, names(out)
    one = [f'a.{suffix}']
    assert run() == (0, '1', False, one) and run() == (0, '0', True, one)
    assert run('--saturation', '2') == (0, '1', False, one) and run('--saturation', '2') == (0, '0', True, one)
    vary(40).save(f)
    assert run() == (0, '1', False, one) and run() == (0, '0', True, one)
    shutil.copy(f, tmp_path/f'moved.{suffix}'); f.unlink(); (tmp_path/f'moved.{suffix}').rename(f) # another inode and time: the same photo
    assert run() == (0, '0', True, one)
    assert (out/'.colorize.jsonl').exists() == (bool(more) or suffix == 'bmp') and bool(file_xmp(out/one[0])) == (not more and suffix != 'bmp')

def test_work_on_a_result_is_not_lost(small, tmp_path):
    f, out = tmp_path/'a.png', tmp_path/'out'
    old.save(f)
    run = lambda *args: colorize([str(f), '-o', str(out), *small, *args])
    assert run() == 0
    with Image.open(out/'a.png') as im: im.rotate(180).save(out/'a.png') # somebody's editor, which keeps no XMP
    mine = (out/'a.png').read_bytes()
    assert run('--saturation', '2') == 0 and names(out) == ['a-2.png', 'a.png'] and (out/'a.png').read_bytes() == mine
    os.utime(out/'a-2.png', (1e9, 1e9)) # touched, the mark is there
    assert run('--saturation', '3') == 0 and names(out) == ['a-2.png', 'a-3.png', 'a.png']
    assert run('--keep-times') == 0 and run('--keep-times', '--saturation', '4') == 0 and names(out) == ['a-2.png', 'a-3.png', 'a.png']

def test_numbers_stay_when_photos_come_and_go(small, tmp_path):
    "a.gif's result keeps its number when a.png is gone, and gets none of another when one comes before it"
    d, out = tmp_path/'in', tmp_path/'out'
    d.mkdir()
    vary(1).save(d/'a.gif'); vary(9).save(d/'a.png')
    run = lambda: (colorize([str(d), '-o', str(out), *small]), {n: mark_of(file_xmp(out/n))['source'] for n in names(out)})[1]
    first = run()
    assert sorted(first.values()) == ['a.gif', 'a.png']
    (d/'a.png').unlink()
    assert run() == first
    vary(30).convert('RGB').save(d/'a.avif') # sorted before both
    assert run().items() >= first.items()

def test_own_results_are_no_photos(small, tmp_path, monkeypatch, capsys):
    old.save(tmp_path/'photo.jpg')
    monkeypatch.chdir(tmp_path)
    assert colorize(['.', *small]) == 0 and colorize(['.', '-o', 'vivid', '--saturation', '1.5', *small]) == 0
    assert names(tmp_path/'vivid') == ['photo.jpg'] and '1 made by colorize and left out' in capsys.readouterr().out
    assert colorize(['.', '-o', 'third', '--no-mark', *small]) == 0 and names(tmp_path/'third') == ['photo.jpg']
    assert colorize(['third', '-o', 'fourth', *small]) == 2 and not (tmp_path/'fourth').exists() # unmarked, the folder knows

def test_the_mark_is_what_others_read(small, tmp_path):
    "An XML reader that knows nothing of us finds IPTC's term; name, digest, weights and settings stand beside it"
    f = tmp_path/'Großmutter & <I>.jpg'
    old.save(f)
    assert colorize([str(f), '-o', str(tmp_path/'out'), *small, '--vividness', '0']) == 0
    xmp = Image.open(tmp_path/'out'/f.name).info['xmp']
    tree, = [e for e in ET.fromstring(xmp).iter('{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description')]
    assert tree.get('{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType') == SOURCE_TYPE
    import hashlib
    m = mark_of(xmp)
    assert m['source'] == f.name and m['sha256'] == hashlib.sha256(f.read_bytes()).hexdigest() and m['settings'] == 'size=32 vividness=0 spread=16 saturation=1'
    assert str(tmp_path) not in xmp.decode() and m['program'].startswith('colorize_fastai ') and len(m['weights']) == 16

def test_a_mark_joins_what_was_there():
    xmp = b'''<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
    <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
    e:DigitalSourceType="http://cv.iptc.org/newscodes/digitalsourcetype/negativeFilm"><tiff:Orientation>8</tiff:Orientation><dc:subject><rdf:Bag><rdf:li>lake</rdf:li></rdf:Bag></dc:subject>
    </rdf:Description></rdf:RDF></x:xmpmeta>  <?xpacket end="w"?>'''
    res = with_mark(with_mark(xmp, dict(source='a')), dict(source='b'))
    assert mark_of(res) == dict(source='b') and res.count(SOURCE_TYPE.encode()) == 1 and b'negativeFilm' not in res
    assert b'lake' in res and b'<tiff:Orientation>1<' in res and b'xmlns:dc=' in res
    for bad in (b'<x', b'', b'<a/>', b'\xff\xfe' + b'\0'*9): assert mark_of(bad) is None

# In color already

def test_photos_in_color_are_left_alone(small, tmp_path, capsys):
    d = tmp_path/'in'
    d.mkdir()
    shutil.copy(sample_photos()['coffee'], d/'color.png'); old.save(d/'grey.png')
    ImageOps.colorize(old, (30,18,10), (250,235,205)).save(d/'sepia.jpg')
    run = lambda out, *args: (colorize([str(d), '-o', str(tmp_path/out), *small, *args]), capsys.readouterr().out)
    status, said = run('skip'); assert status == 0 and '1 in color already and left alone' in said and names(tmp_path/'skip') == ['grey.png', 'sepia.jpg']
    status, said = run('copy', '--in-color', 'copy'); assert status == 0 and '1 in color already and copied' in said
    assert (tmp_path/'copy'/'color.png').read_bytes() == (d/'color.png').read_bytes() and len(names(tmp_path/'copy')) == 3
    status, said = run('re', '--in-color', 'recolor'); assert status == 0 and said.startswith('3 colorized')
    assert colorize([str(d/'color.png'), '-o', str(tmp_path/'no'), *small]) == 2 and not (tmp_path/'no').exists()
    assert colorize([str(d), '-o', str(tmp_path/'x'), *small, '--in-color', 'maybe']) == 2 and "'maybe'" in capsys.readouterr().err

@pytest.mark.parametrize('ends', [((0,0,0), (255,250,235)), ((30,18,10), (250,235,205)), ((20,30,60), (235,245,250)), ((90,70,75), (235,215,190))])
def test_prints_of_one_tone_are_no_color(ends):
    "Also as a JPEG of low quality; with a red dress or a tinted sky they are"
    for p in sample_photos(grey=True).values():
        grey = Image.open(p).convert('L')
        b = io.BytesIO(); ImageOps.colorize(grey, *ends).save(b, 'JPEG', quality=60)
        toned = read_rgb(b.getvalue()); assert in_color(toned) == ''
        w, h = toned.size
        tinted = toned.copy(); tinted.paste(ImageOps.colorize(grey, (60,0,0), (255,150,150)).crop((0, 0, w//2, h//5)), (0, 0))
        assert in_color(tinted) != ''

def test_color_photos_are_in_color():
    for p in sample_photos().values(): assert in_color(read_rgb(p)) == 'wholly'

# Frames, strips, dots

@pytest.mark.parametrize('frame', [240, 12])
def test_a_frame_stays_neutral_and_is_not_seen(tiny_weights, frame):
    c = Colorizer(tiny_weights, 'cpu', 64)
    inner = read_rgb(sample_photos(grey=True)['camera']).resize((300, 240))
    framed = ImageOps.expand(inner, (25, 31, 40, 22), (frame,)*3)
    assert find_frame(framed) == (25, 31, 325, 271)
    a = np.asarray(c(framed)).astype(int)
    assert np.array_equal(a[31:271, 25:325], np.asarray(c(inner)))
    a[31:271, 25:325] = 7
    assert np.ptp(a, axis=2).max() == 0

def test_a_strip_is_seen_as_large_as_any_photo(tiny_weights):
    "Its colors are those of its parts: far from their ends they are what a window alone would get"
    c = Colorizer(tiny_weights, 'cpu', 32)
    seen, tile = [], read_rgb(sample_photos(grey=True)['camera']).resize((60, 60))
    c.net.register_forward_pre_hook(lambda m, x: seen.append(tuple(x[0].shape)))
    strip = Image.new('RGB', (60*40, 60))
    for i in range(40): strip.paste(tile, (60*i, 0))
    a = np.asarray(c(strip)).astype(int)
    assert {s[2:] for s in seen} == {(32, 64)} and sum(s[0] for s in seen) == 27
    assert np.abs(a[:, 600:660] - a[:, 1800:1860]).mean() < 2 # a period is a period, wherever windows begin
    tall = np.asarray(c(strip.transpose(Image.Transpose.TRANSPOSE))); assert tall.shape == (2400, 60, 3)

def test_dots_get_a_remark(small, tmp_path, capsys):
    old.convert('1').save(tmp_path/'print.png')
    assert colorize([str(tmp_path/'print.png'), '-o', str(tmp_path/'out'), *small]) == 0
    assert 'dots of black and white' in capsys.readouterr().err

# Pages and depth

def scan(shape=(72,96), dtype=np.uint16, top=65535): return (np.random.default_rng(0).random(shape)*.2*top + np.linspace(0, .8*top, shape[1])).astype(dtype)

@pytest.mark.parametrize('deep', [False, True])
def test_all_pages(small, tmp_path, capsys, deep):
    "A TIFF of three stays one of three, with a thumbnail that does not count; as a JPEG it says what is left out"
    with tifffile.TiffWriter(tmp_path/'pages.tif') as w:
        w.write(scan((20, 24), np.uint8, 255), subfiletype=1)
        for i in range(3): w.write(scan((72, 96 + i)) if deep else scan((72, 96 + i), np.uint8, 255), compression='zlib')
    assert colorize([str(tmp_path/'pages.tif'), '-o', str(tmp_path/'out'), *small]) == 0
    with tifffile.TiffFile(tmp_path/'out'/'pages.tif') as f:
        assert [p.shape for p in f.pages] == [(72, 96 + i, 3) for i in range(3)] and {p.dtype for p in f.pages} == {np.dtype(np.uint16 if deep else np.uint8)}
        assert mark_of(f.pages[0].tags[700].value)['source'] == 'pages.tif'
        for i,p in enumerate(f.pages):
            got, want = p.asarray()/(65535 if deep else 255), scan((72, 96 + i))/65535 if deep else scan((72, 96 + i), np.uint8, 255)/255
            assert np.abs(rgb2lab(got)[...,0] - rgb2lab(np.dstack([want]*3))[...,0]).max() < (.05 if deep else .5)
    assert colorize([str(tmp_path/'pages.tif'), '-o', str(tmp_path/'jpg'), '--format', 'jpg', *small]) == 0
    assert 'first page of 3' in capsys.readouterr().err

def test_a_mark_has_room_where_the_xmp_of_a_photo_has_none(small, tmp_path, capsys):
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:q="urn:q" q:long="' + b'x'*70_000 + b'"/></rdf:RDF></x:xmpmeta>'
    old.save(tmp_path/'a.webp', xmp=xmp)
    assert colorize([str(tmp_path/'a.webp'), '-o', str(tmp_path/'a.jpg'), *small]) == 0
    assert mark_of(file_xmp(tmp_path/'a.jpg'))['source'] == 'a.webp' and 'cannot hold its XMP' in capsys.readouterr().err

def test_animations_say_so(small, tmp_path, capsys):
    for end in ('gif', 'png', 'webp'): old.convert('RGB').save(tmp_path/f'a.{end}', save_all=True, append_images=[vary(9).convert('RGB')])
    assert colorize([str(tmp_path), '-o', str(tmp_path/'out'), *small]) == 0
    assert capsys.readouterr().err.count('its first picture; there are 2') == 3

def deep_files(d):
    tifffile.imwrite(d/'grey.tif', scan(), compression='zlib')
    tifffile.imwrite(d/'rgb.tif', np.dstack([scan()]*3), photometric='rgb')
    tifffile.imwrite(d/'white.tif', 65535 - scan(), photometric='miniswhite')
    Image.fromarray(scan()).save(d/'grey.png')
    import imagecodecs
    (d/'rgb.png').write_bytes(imagecodecs.png_encode(np.dstack([scan()]*3)))
    (d/'rgba.png').write_bytes(imagecodecs.png_encode(np.dstack([scan()]*3 + [np.full((72,96), 65535, np.uint16)])))

def test_sixteen_bits_stay(small, tmp_path):
    "More than 256 greys come out, L* as it was; turned photos turn"
    d = tmp_path/'in'
    d.mkdir(); deep_files(d)
    assert colorize([str(d), '-o', str(tmp_path/'out'), *small]) == 0
    for n in names(d):
        x = read_photo(tmp_path/'out'/n).deep
        assert x.dtype == np.uint16 and x.shape[:2] == (72, 96) and len(np.unique(x[...,1])) > 3000, n
        L = lambda a: rgb2lab(a[...,:3]/65535)[...,0]
        assert np.abs(L(x) - L(np.dstack([scan()]*3))).max() < .05
    assert Image.open(tmp_path/'out'/'rgba.png').mode == 'RGBA'
    for n in names(d): assert colorize([str(d/n), '-o', str(tmp_path/'grey'/n), '--saturation', '0', *small]) == 0
    for n in names(d): assert np.ptp(read_photo(tmp_path/'grey'/n).deep[...,:3].astype(int), axis=2).max() == 0
    tifffile.imwrite(d/'turned.tif', scan(), extratags=[(274, 'H', 1, 6, True)])
    tifffile.imwrite(d/'turned_rgb.tif', np.dstack([scan()]*3), photometric='rgb', extratags=[(274, 'H', 1, 6, True)])
    for n in ('turned', 'turned_rgb'):
        p = read_photo(d/f'{n}.tif')
        assert p.deep.shape[:2] == (96, 72) and np.array_equal(p.deep.reshape(96, 72, -1)[...,0], scan().T[:, ::-1]) and p.rgb.size == (72, 96)

def test_sixteen_bits_with_a_profile(tmp_path):
    "sRGB changes nothing, nor does a profile that does not fit; another RGB is translated, in 8 bits, and it is said"
    x = np.dstack([scan()]*3)
    srgb, lab = (ImageCms.ImageCmsProfile(ImageCms.createProfile(o)).tobytes() for o in ('sRGB', 'LAB'))
    swapped = bytearray(srgb) # red and blue change places
    at = [i for i in range(128, 400) if swapped[i:i+4] in (b'rXYZ', b'bXYZ')]
    for i,name in zip(at, (b'bXYZ', b'rXYZ') if swapped[at[0]:at[0]+4] == b'rXYZ' else (b'rXYZ', b'bXYZ')): swapped[i:i+4] = name
    for name,icc in dict(srgb=srgb, lab=lab, swapped=bytes(swapped)).items(): tifffile.imwrite(tmp_path/f'{name}.tif', x, photometric='rgb', iccprofile=icc)
    for n in ('srgb', 'lab'): assert np.array_equal(read_photo(tmp_path/f'{n}.tif').deep, x)
    p = read_photo(tmp_path/'swapped.tif')
    assert p.deep is None and p.remarks == ['its 16 bits have a color profile of their own, and were made 8']

def test_formats_without_sixteen_bits_say_so(small, tmp_path, capsys):
    tifffile.imwrite(tmp_path/'a.tif', scan())
    assert colorize([str(tmp_path/'a.tif'), '-o', str(tmp_path/'out'), '--format', 'jpg', *small]) == 0
    assert '16 bits, written as 8' in capsys.readouterr().err

# Metadata

def described(d):
    "The same photo in four formats, with all that each can say"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:source>May</dc:source></rdf:Description></rdf:RDF></x:xmpmeta>'
    iptc = b'\x1c\x02\x78\x00\x08lakeside'
    segment = b'Photoshop 3.0\x008BIM\x04\x04\0\0' + struct.pack('>L', len(iptc)) + iptc + b'\0'*(len(iptc) % 2)
    ex = Image.Exif(); ex[315] = 'Ansel'; ex.get_ifd(34665)[36867] = '1931:05:04 00:00:00'
    main = Image.Exif(); main[315] = 'Ansel'
    old.save(d/'a.jpg', exif=ex.tobytes(), xmp=xmp, comment=b'box 12', dpi=(600, 600), extra=b'\xff\xed' + struct.pack('>H', len(segment) + 2) + segment)
    words = PngInfo(); words.add_text('Title', 'lake'); words.add_itxt('Caption', '写真'); words.add_itxt('XML:com.adobe.xmp', xmp.decode())
    old.save(d/'a.png', exif=ex.tobytes(), pnginfo=words, dpi=(600, 600))
    main[700], main[33723] = xmp, iptc
    old.save(d/'a.tif', exif=main.tobytes(), compression='tiff_lzw', dpi=(600, 600))
    old.save(d/'a.webp', exif=ex.tobytes(), xmp=xmp)

def test_what_is_known_stays_known(small, tmp_path, capsys):
    d, out = tmp_path/'in', tmp_path/'out'
    d.mkdir(); described(d)
    assert colorize([str(d), '-o', str(out), *small]) == 0 and not capsys.readouterr().err
    for n in names(d):
        before, after = read_photo(d/n), read_photo(out/n)
        assert b'<dc:source>May</dc:source>' in after.meta['xmp'] and mark_of(after.meta['xmp'])['source'] == n
        assert {k: v for k,v in after.meta.items() if k not in ('xmp', 'dpi')} == {k: v for k,v in before.meta.items() if k not in ('xmp', 'dpi')}, n
        if 'dpi' in before.meta: assert after.meta['dpi'] == pytest.approx((600, 600), abs=.2)
        with Image.open(out/n) as im:
            assert im.getexif()[315] == 'Ansel'
            assert ImageCms.getProfileDescription(ImageCms.getOpenProfile(io.BytesIO(im.info['icc_profile']))).startswith('sRGB')
    assert Image.open(out/'a.jpg').getexif().get_ifd(34665)[36867] == '1931:05:04 00:00:00'

def test_what_is_left_out_is_said(small, tmp_path, capsys):
    d = tmp_path/'in'
    d.mkdir(); described(d)
    for n, to, lost in (('a.jpg', 'webp', ('IPTC', 'comment', 'resolution')), ('a.png', 'jpg', ('texts',)), ('a.png', 'bmp', ('EXIF', 'XMP', 'texts'))):
        assert colorize([str(d/n), '-o', str(tmp_path/f'{n}.{to}'), *small]) == 0
        err = capsys.readouterr().err
        assert all(o in err for o in lost) and len(err.splitlines()) == 1, err

def test_equal_runs_are_equal_files(small, tmp_path):
    "But for the time in the mark, which --no-mark leaves out"
    old.save(tmp_path/'a.png')
    for o in ('one', 'two'): assert colorize([str(tmp_path/'a.png'), '-o', str(tmp_path/o), '--no-mark', *small]) == 0; time.sleep(1.1)
    assert (tmp_path/'one'/'a.png').read_bytes() == (tmp_path/'two'/'a.png').read_bytes()

def test_lines_of_python_keep_metadata(tiny_weights, tmp_path):
    d = tmp_path
    described(d)
    c = Colorizer(tiny_weights, 'cpu', 32)
    p = read_photo(d/'a.jpg')
    save_photo(c(p), d/'out.jpg')
    assert Image.open(d/'out.jpg').getexif()[315] == 'Ansel' and read_photo(d/'out.jpg').meta.items() >= {k: v for k,v in p.meta.items() if k != 'xmp'}.items()

# Many processes

def test_shards_are_disjoint_and_complete(small, tmp_path):
    d = tmp_path/'in'
    (d/'sub').mkdir(parents=True)
    for i in range(12): vary(i).save(d/('sub' if i % 2 else '')/f'{i}.png')
    sizes = []
    for i in (1, 2, 3):
        before = set(names(tmp_path/'out')) if (tmp_path/'out').exists() else set()
        colorize([str(d), '-o', str(tmp_path/'out'), '--shard', f'{i}/3', *small])
        sizes.append(len(set(names(tmp_path/'out')) - before))
    assert names(tmp_path/'out') == names(d) and sum(sizes) == 12 and min(sizes) > 0
    (d/'0a.png').write_bytes((d/'sub'/'1.png').read_bytes()) # one that comes later moves no other
    for i in (1, 2, 3): colorize([str(d), '-o', str(tmp_path/'out'), '--shard', f'{i}/3', *small])
    assert names(tmp_path/'out') == names(d)
    assert colorize([str(d), '-o', str(tmp_path/'out'), '--shard', '4/3', *small]) == 2

def test_shard_of_a_launcher(monkeypatch):
    monkeypatch.setenv('WORLD_SIZE', '4'); monkeypatch.setenv('RANK', '2')
    assert room.which_shard() == (3, 4) and room.which_shard('1/2') == (1, 2)

def test_two_processes_in_one_folder(small, tmp_path):
    "No photo twice, and none forgotten"
    d = tmp_path/'in'
    d.mkdir()
    for i in range(30): vary(i).save(d/f'{i:02}.png')
    run = lambda i: subprocess.Popen([command, str(d), '-o', str(tmp_path/'out'), '--jobs', '1', '--report', str(tmp_path/f'{i}.csv'), *small], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    ps = [run(i) for i in range(2)]
    assert [p.wait(120) for p in ps] == [0, 0], [p.stderr.read() for p in ps]
    import csv
    rows = [list(csv.DictReader(open(tmp_path/f'{i}.csv', newline=''))) for i in range(2)]
    written = [r['photo'] for rs in rows for r in rs if r['status'] == 'written']
    assert len(written) == len(set(written)) == 30 and names(tmp_path/'out') == names(d)
    assert {r['status'] for rs in rows for r in rs} <= {'written', 'kept'} and not list((tmp_path/'out').glob('.*.claim'))

def test_two_albums_at_once(small, tmp_path):
    "Photos of the same names from two folders, by two processes into one: each is there"
    for k,box in enumerate(('box1', 'box2')):
        (tmp_path/box).mkdir()
        for i in range(12): vary(40*k + i).save(tmp_path/box/f'{i:02}.png')
    ps = [subprocess.Popen([command, str(tmp_path/box), '-o', str(tmp_path/'out'), '--jobs', '1', *small], stderr=subprocess.PIPE) for box in ('box1', 'box2')]
    assert [p.wait(120) for p in ps] == [0, 0]
    marks = [mark_of(file_xmp(tmp_path/'out'/n)) for n in names(tmp_path/'out')]
    assert len({m['sha256'] for m in marks}) == len(marks) == 24

def test_a_claim_of_a_dead_process_counts_for_nothing(small, tmp_path):
    old.save(tmp_path/'a.png')
    code = 'import os, sys; from colorize_fastai.files import claimed\nwith claimed(sys.argv[1]): os._exit(1)'
    (tmp_path/'out').mkdir()
    subprocess.run([sys.executable, '-c', code, str(tmp_path/'out'/'a.png')])
    assert list((tmp_path/'out').glob('.*.claim'))
    assert colorize([str(tmp_path/'a.png'), '-o', str(tmp_path/'out'), *small]) == 0
    assert sorted(os.listdir(tmp_path/'out')) == ['a.png']

# Python

def test_pickled_and_in_threads(tiny_weights):
    c = Colorizer(tiny_weights, 'cpu', 32)
    a = np.asarray(c(old))
    assert np.array_equal(np.asarray(pickle.loads(pickle.dumps(c))(old)), a)
    res = []
    ts = [threading.Thread(target=lambda: res.append(np.asarray(c(old)))) for _ in range(4)]
    for t in ts: t.start()
    for t in ts: t.join()
    assert len(res) == 4 and all(np.abs(r.astype(int) - a).max() <= 1 for r in res)

def test_numpy_numbers_and_buffers(tiny_weights):
    c = Colorizer(tiny_weights, 'cpu', np.int64(32))
    b = io.BytesIO(); old.save(b, 'PNG')
    a = np.asarray(c(old, saturation=np.float32(1), vividness=np.float64(.5)))
    for x in (b.getvalue(), bytearray(b.getvalue()), memoryview(b.getvalue()), io.BytesIO(b.getvalue())):
        assert np.array_equal(np.asarray(c(x, vividness=.5)), a)
    both = c([old, np.asarray(old)], vividness=.5); assert all(np.array_equal(np.asarray(o), a) for o in both)

def test_batch_goes_on(tiny_weights, tmp_path):
    c = Colorizer(tiny_weights, 'cpu', 32)
    old.save(tmp_path/'a.png'); (tmp_path/'b.png').write_text('no')
    seen = []
    c.net.register_forward_pre_hook(lambda m, x: seen.append(len(x[0])))
    res = list(c.batch([tmp_path/'a.png', tmp_path/'b.png', *[old]*6], bs=4))
    assert [type(o) for o in res] == [Image.Image, PhotoError, *[Image.Image]*6] and seen == [3, 4]
    assert list(c.batch([])) == []

# What can be seen and chosen

def test_compare(small, tmp_path, capsys):
    for n in 'ab': vary(ord(n) % 9).save(tmp_path/f'{n}.png')
    assert colorize([str(tmp_path/'a.png'), str(tmp_path/'b.png'), '--compare', str(tmp_path/'sheet.png'), '--saturation', '1,2', *small]) == 0
    w, h = Image.open(tmp_path/'sheet.png').size
    assert w > h > 300 and names(tmp_path) == ['a.png', 'b.png', 'sheet.png']
    assert colorize(['--samples', '--compare', str(tmp_path/'samples.png'), *small]) == 0 and '9 photos' in capsys.readouterr().out
    assert colorize([str(tmp_path/'a.png'), '--saturation', '1,2', *small]) == 2 and '--compare' in capsys.readouterr().err

def test_report_says_how_colorful(small, tmp_path):
    old.save(tmp_path/'a.png')
    for s in (0, 3):
        assert colorize([str(tmp_path/'a.png'), '-o', str(tmp_path/f'{s}.png'), '--saturation', str(s), '--report', str(tmp_path/f'{s}.csv'), *small]) == 0
    import csv
    a, b = (float(next(csv.DictReader(open(tmp_path/f'{s}.csv')))['colorfulness']) for s in (0, 3))
    assert a == 0 < b

def test_forecast_for_big_jobs(small, tmp_path, capsys):
    (tmp_path/'in').mkdir()
    for i in range(101): old.resize((8, 6)).save(tmp_path/'in'/f'{i}.png')
    assert colorize([str(tmp_path/'in'), '-o', str(tmp_path/'out'), *small]) == 0
    assert 'about ' in (err := capsys.readouterr().err) and ' GB more for 81 photos' in err
