"Photos of every kind against independent computations"
import io, struct
import numpy as np, pytest
from PIL import ExifTags, Image, ImageFile
from colorize_fastai import photo as room
from colorize_fastai.photo import FORMATS, PhotoError, photo_files, read_photo, read_pixels, read_rgb, sample_photos, save_photo

rng = np.random.default_rng(0)
def arr(im): return np.asarray(im).astype(int)
def noise(*shape, dtype=np.uint8): return rng.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
def packed(im, fmt, **kw):
    b = io.BytesIO(); im.save(b, fmt, **kw)
    return b.getvalue()

# Orientation: what the eight values of the tag mean, as array operations (EXIF 2.32, 4.6.5.A)

upright = {1: lambda a: a, 2: lambda a: a[:,::-1], 3: lambda a: a[::-1,::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0,1),
           6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1,::-1].swapaxes(0,1), 8: lambda a: np.rot90(a)}

@pytest.mark.parametrize('fmt', ['PNG', 'TIFF', 'WEBP'])
@pytest.mark.parametrize('turn', upright)
def test_orientation(turn, fmt):
    a, ex = noise(3,5,4), Image.Exif(); ex[ExifTags.Base.Orientation] = turn
    p = read_photo(packed(Image.fromarray(a), fmt, exif=ex, **(dict(lossless=True, exact=True) if fmt == 'WEBP' else {})))
    np.testing.assert_array_equal(arr(p.rgb), upright[turn](a)[...,:3])
    np.testing.assert_array_equal(arr(p.alpha), upright[turn](a)[...,3])
    for again in (packed(p.rgb, 'PNG', exif=p.exif), p.rgb): np.testing.assert_array_equal(arr(read_rgb(again)), arr(p.rgb))

@pytest.mark.parametrize('turn', [1, 6])
def test_avif(turn, tmp_path):
    "Pillow's own reading, upright; and found in a folder by its suffix"
    im, ex = Image.open(sample_photos()['coffee']).convert('RGB').resize((60, 40)), Image.Exif()
    ex[ExifTags.Base.Orientation] = turn
    (tmp_path/'a.avif').write_bytes(packed(im, 'AVIF', quality=95, subsampling='4:4:4', exif=ex))
    assert photo_files(tmp_path) == [tmp_path/'a.avif']
    got, off = arr(read_rgb(tmp_path/'a.avif')), np.abs
    np.testing.assert_array_equal(got, upright[turn](arr(Image.open(tmp_path/'a.avif').convert('RGB'))))
    assert off(got - upright[turn](arr(im))).mean() < 3
    for bad in ((tmp_path/'a.avif').read_bytes()[:200], (tmp_path/'a.avif').read_bytes()[:-500]):
        with pytest.raises(PhotoError, match='an AVIF file, but damaged|cut short'): read_rgb(bad)

# Color profiles, made here from their definition

def icc(space, tags):
    "A minimal ICC v2 profile (ICC.1:2001-04, 6.1 and 6.3)"
    table, data, at = b'', b'', 128 + 4 + 12*len(tags)
    for k,v in tags.items():
        v += b'\0'*(-len(v) % 4)
        table += struct.pack('>4sII', k.encode(), at + len(data), len(v)); data += v
    head = struct.pack('>I4sI4s4s4s', at + len(data), b'none', 0x02400000, b'mntr', space.encode(), b'XYZ ')
    head += struct.pack('>6H', 2026, 1, 1, 0, 0, 0) + b'acsp' + b'\0'*28 + xyz(.9642, 1, .8249)[8:] + b'\0'*48
    assert len(head) == 128
    return head + struct.pack('>I', len(tags)) + table + data

def s15(x): return struct.pack('>i', round(x*65536))
def xyz(*v): return b'XYZ \0\0\0\0' + b''.join(map(s15, v))
def gamma(g): return b'curv\0\0\0\0' + struct.pack('>IH', 1, round(g*256))
def text(s): return b'text\0\0\0\0' + s.encode() + b'\0'
def desc(s): return b'desc\0\0\0\0' + struct.pack('>I', len(s) + 1) + s.encode() + b'\0' + b'\0'*78
both = dict(desc=desc('test'), cprt=text('none'), wtpt=xyz(.9505, 1, 1.0891))
adobe = np.array([[.60974, .20528, .14919], [.31111, .62567, .06322], [.01947, .06087, .74457]])  # Adobe RGB (1998) to XYZ, D50
srgb = np.array([[.43607, .38515, .14307], [.22249, .71687, .06061], [.01392, .09708, .71410]])  # sRGB to XYZ, D50 (IEC 61966-2-1)
def encode(lin): return np.where(lin <= .0031308, 12.92*lin, 1.055*np.clip(lin, 1e-9, None)**(1/2.4) - .055)
def rgb_profile(): return icc('RGB ', dict(both, **{k: xyz(*adobe[:,i]) for i,k in enumerate(['rXYZ', 'gXYZ', 'bXYZ'])}, **{k: gamma(2.2) for k in ('rTRC', 'gTRC', 'bTRC')}))

@pytest.mark.parametrize('fmt', ['PNG', 'TIFF'])
def test_rgb_profile(fmt):
    a = rng.integers(60, 196, (8,8,3), np.uint8)  # inside sRGB, so that nothing is clipped
    want = encode((np.linalg.inv(srgb) @ adobe @ ((a/255)**(563/256)).reshape(-1,3).T).T.reshape(a.shape))*255
    rgb = read_rgb(packed(Image.fromarray(a), fmt, icc_profile=rgb_profile())); got = arr(rgb)
    np.testing.assert_array_equal(arr(read_rgb(rgb)), got)  # translated once
    assert np.abs(got - want)[(want > 5).all(-1) & (want < 250).all(-1)].max() < 3
    assert np.abs(got - a).max() > 5  # the profile does matter

def test_grey_profile():
    a = np.arange(256, dtype=np.uint8).reshape(16,16)
    got = arr(read_rgb(packed(Image.fromarray(a), 'PNG', icc_profile=icc('GRAY', dict(both, kTRC=gamma(1.75))))))
    want = encode((a/255)**1.75)*255
    assert np.ptp(got, axis=2).max() <= 1 and np.abs(got[...,0] - want).max() < 3 < np.abs(a - want).max()

def test_profile_on_grey_and_damaged_profiles():
    a = Image.fromarray(noise(4,4))
    for profile in (rgb_profile()[:200], b'junk', icc('CMYK', both)): assert (arr(read_rgb(packed(a, 'PNG', icc_profile=profile))) == arr(a)[...,None]).all()
    grey = arr(read_rgb(packed(a, 'PNG', icc_profile=rgb_profile())))  # an RGB profile on a grey photo: neutral stays neutral
    assert np.ptp(grey, axis=2).max() <= 2

# Depths and modes

@pytest.mark.parametrize('fmt', ['PNG', 'TIFF', 'PPM'])
def test_16_bit_grey(fmt):
    a = noise(9,7, dtype=np.uint16)
    np.testing.assert_array_equal(arr(read_rgb(packed(Image.fromarray(a), fmt)))[...,1], np.rint(a/257))

def tiff(values, bits, photometric, order='<'):
    "A grey TIFF of one strip, from the specification (TIFF 6.0, section 4)"
    h, w = values.shape
    if bits == 16: data = values.astype(f'{order}u2').tobytes()
    else: data = b''.join(bytes([a >> 4, (a & 15) << 4 | b >> 8, b & 255]) for a,b in values.reshape(-1,2).tolist())
    tags = [(256,w), (257,h), (258,bits), (259,1), (262,photometric), (273,8), (277,1), (278,h), (279,len(data))]
    ifd = struct.pack(f'{order}H', len(tags)) + b''.join(struct.pack(f'{order}HHII' if k in (256, 257, 273, 278, 279) else f'{order}HHIHH',
        k, 4 if k in (256, 257, 273, 278, 279) else 3, 1, v, *([] if k in (256, 257, 273, 278, 279) else [0])) for k,v in tags) + b'\0\0\0\0'
    return (b'II*\0' if order == '<' else b'MM\0*') + struct.pack(f'{order}I', 8 + len(data)) + data + ifd

@pytest.mark.parametrize('order', '<>')
def test_16_bit_tiff_byte_order(order):
    a = noise(4,6, dtype=np.uint16)
    np.testing.assert_array_equal(arr(read_rgb(tiff(a, 16, 1, order)))[...,0], np.rint(a/257))

def test_white_is_zero():
    a = noise(4,6, dtype=np.uint16)
    np.testing.assert_array_equal(arr(read_rgb(tiff(a, 16, 0)))[...,0], 255 - np.rint(a/257))

def test_12_bit_tiff():
    a = noise(4,6, dtype=np.uint16) >> 4
    np.testing.assert_array_equal(arr(read_rgb(tiff(a, 12, 1)))[...,0], np.rint(a*(255/4095)))

def test_float_and_1_bit():
    a = rng.random((5,6), np.float32)
    np.testing.assert_array_equal(arr(read_rgb(packed(Image.fromarray(a), 'TIFF')))[...,2], np.rint(a*255))
    b = noise(5,6) > 127
    np.testing.assert_array_equal(arr(read_rgb(packed(Image.fromarray(b), 'PNG')))[...,0], b*255)
    for bad in (a*300, a*np.nan):
        with pytest.raises(PhotoError, match='outside 0..1'): read_rgb(packed(Image.fromarray(bad), 'TIFF'))

def test_cmyk():
    a = np.repeat(np.repeat(noise(2,2,4), 16, 0), 16, 1); c = a.astype(int)
    want = (255 - c[...,:3])*(255 - c[...,3:])/255
    raw = packed(Image.fromarray(a, 'CMYK'), 'JPEG', quality=100, subsampling=0)
    assert b'Adobe' in raw[:200]  # Adobe's JPEGs hold CMYK inverted
    assert np.abs(arr(read_rgb(raw)) - want).max() < 6
    assert np.abs(arr(read_rgb(packed(Image.fromarray(a, 'CMYK'), 'TIFF'))) - want).max() <= 1

def test_transparency():
    a = noise(5,4,4); p = read_photo(packed(Image.fromarray(a), 'PNG'))
    np.testing.assert_array_equal(np.dstack([arr(p.rgb), arr(p.alpha)]), a)
    la = noise(5,4,2); p = read_photo(packed(Image.fromarray(la, 'LA'), 'PNG'))
    np.testing.assert_array_equal(arr(p.rgb)[...,2], la[...,0]); np.testing.assert_array_equal(arr(p.alpha), la[...,1])
    pal, index = noise(4,3), np.arange(4, dtype=np.uint8).reshape(2,2)
    im = Image.fromarray(index, 'P'); im.putpalette(pal.tobytes())
    p = read_photo(packed(im, 'PNG', transparency=bytes([0, 10, 128, 255])))
    np.testing.assert_array_equal(arr(p.rgb), pal[index]); np.testing.assert_array_equal(arr(p.alpha), [[0, 10], [128, 255]])
    p = read_photo(packed(im, 'PNG')); assert p.alpha is None
    np.testing.assert_array_equal(arr(p.rgb), pal[index])
    p = read_photo(packed(Image.fromarray(a[...,:3].copy()), 'PNG', transparency=tuple(a[0,0,:3].tolist())))  # one color is see-through
    np.testing.assert_array_equal(arr(p.rgb), a[...,:3]); assert arr(p.alpha)[0,0] == 0 and (arr(p.alpha) == 255).sum() >= 18

@pytest.mark.parametrize('fmt', ['GIF', 'TIFF', 'WEBP', 'PNG'])
def test_first_of_several(fmt):
    first, second = Image.new('RGB', (8,6), (0,0,0)), Image.new('RGB', (8,6), (255,255,255))
    assert arr(read_rgb(packed(first, fmt, save_all=True, append_images=[second]))).max() == 0

def test_small_version():
    im = Image.fromarray(noise(30,40)).resize((1600,1200), Image.Resampling.BICUBIC); raw = packed(im, 'JPEG')
    for side, want in ((None, 1200), (1200, 1200), (601, 1200), (600, 600), (256, 300), (64, 150), (10_000, 1200)):
        small = read_rgb(raw, side); assert min(small.size) == want
        assert np.abs(arr(small.resize((40,30), Image.Resampling.BOX)) - arr(im.resize((40,30), Image.Resampling.BOX))[...,None]).mean() < 2
    assert read_rgb(packed(im, 'PNG'), 64).size == im.size

# As an array: the fast way and the way of all photos

@pytest.fixture(params=['simplejpeg', 'none'])
def decoder(request, monkeypatch):
    "Runs a test with and without simplejpeg; what it decoded is counted"
    seen = []
    if request.param == 'none': monkeypatch.setattr(room, 'simplejpeg', None); return None
    sj = pytest.importorskip('simplejpeg')
    decode = lambda raw, **kw: (seen.append(1), sj.decode_jpeg(raw, **kw))[1]
    monkeypatch.setattr(room, 'simplejpeg', type('Spy', (), dict(decode_jpeg=staticmethod(decode), decode_jpeg_header=staticmethod(sj.decode_jpeg_header))))
    return seen

def near(a, b):
    "The same to a step of 255 in lightness, and in color once both are a quarter as large"
    luma = [arr(Image.fromarray(o.astype(np.uint8)).convert('L')) for o in (a, b)]
    small = [arr(Image.fromarray(o.astype(np.uint8)).reduce(4)) for o in (a, b)]
    return a.shape == b.shape and all(np.abs(x - y).mean() < 1 for x,y in (luma, small))

def smooth(w, h): return read_rgb(sample_photos()['chelsea']).resize((w, h), Image.Resampling.BICUBIC)

@pytest.mark.parametrize('kw', [dict(subsampling=o, progressive=p) for o in (0, 1, 2) for p in (False, True)])
def test_plain_jpegs(decoder, kw, tmp_path):
    raw = packed(smooth(203, 101), 'JPEG', **kw)
    (tmp_path/'a.jpg').write_bytes(raw)
    for src in raw, tmp_path/'a.jpg', str(tmp_path/'a.jpg'):
        got = read_pixels(src, 60)
        assert got.dtype == np.uint8 and got.shape == (101,203,3) and got.flags.writeable
        assert near(got, arr(read_rgb(src, 60)))
    assert decoder is None or len(decoder) == 3

def turned(n): ex = Image.Exif(); ex[ExifTags.Base.Orientation] = n; return ex

@pytest.mark.parametrize('raw', [packed(smooth(48, 40), 'JPEG', exif=turned(6)), packed(smooth(48, 40), 'JPEG', icc_profile=rgb_profile()),
    packed(smooth(48, 40).convert('CMYK'), 'JPEG'), packed(smooth(48, 40).convert('L'), 'JPEG'), packed(smooth(480, 400), 'JPEG'),
    packed(smooth(48, 40), 'PNG'), packed(Image.fromarray(noise(9,7, dtype=np.uint16)), 'TIFF')], ids='turned profile cmyk grey large png 16-bit'.split())
def test_whatever_is_not_plain_takes_the_long_way(decoder, raw):
    np.testing.assert_array_equal(read_pixels(raw, 40), np.asarray(read_rgb(raw, 40)))
    assert not decoder

def test_upright_exif_is_plain(decoder):
    raw = packed(smooth(48, 40), 'JPEG', exif=turned(1))
    assert near(read_pixels(raw), arr(read_rgb(raw)))
    assert decoder is None or len(decoder) == 1

def test_errors_are_the_same(decoder, tmp_path):
    raw = packed(smooth(203, 101), 'JPEG')
    for src in b'', raw[:500], raw[:len(raw)//2], b'<html>', tmp_path/'none.jpg', tmp_path:
        with pytest.raises(PhotoError) as a: read_rgb(src)
        with pytest.raises(PhotoError) as b: read_pixels(src)
        assert str(a.value) == str(b.value)

def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path/'x').touch()
    with pytest.raises(PhotoError, match='cannot be written'): save_photo(Image.new('RGB', (2,2)), tmp_path/'x/a.png')

def test_nothing_global_changes(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    raw = packed(Image.fromarray(noise(400,600)), 'JPEG')
    (tmp_path/'a.jpg').write_bytes(raw)
    read_rgb(raw, 64)
    with pytest.raises(PhotoError): read_rgb(raw[:500])
    assert (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == before
    with Image.open(tmp_path/'a.jpg') as im:
        assert read_rgb(im, 64).size == im.size == (600,400)  # a picture that somebody else opened stays as it is

# Writing

@pytest.mark.parametrize('suffix', FORMATS)
def test_written_and_read(tmp_path, suffix):
    ex = Image.Exif(); ex[ExifTags.Base.Orientation] = 6; ex[ExifTags.Base.Make] = 'Leica'
    ex.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] = 50.; ex.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = 'N'
    like = read_photo(packed(Image.fromarray(noise(3,2,4)).resize((16,24), Image.Resampling.BICUBIC), 'PNG', exif=ex)); assert like.rgb.size == (24,16)
    f = save_photo(like.rgb, tmp_path/'deep'/f'x{suffix}', like=like, quality=100)
    with Image.open(f) as im:
        assert im.format == FORMATS[suffix] and im.size == (24,16)
        got = im.getexif()
        if suffix != '.bmp':
            assert got[ExifTags.Base.Orientation] == 1 and got[ExifTags.Base.Make] == 'Leica'
            assert got.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.FocalLength] == 50 and got.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == 'N'
    back = read_photo(f)
    if FORMATS[suffix] in ('JPEG', 'BMP'):
        k = arr(like.alpha)[...,None]/255; want = arr(like.rgb)*k + 255*(1 - k)
        assert back.alpha is None and np.abs(arr(back.rgb) - want).mean() < 3
    else: np.testing.assert_array_equal(arr(back.alpha), arr(like.alpha))
    if suffix in ('.png', '.tif', '.tiff'): np.testing.assert_array_equal(arr(back.rgb), arr(like.rgb))

def test_layout_of_a_tiff_does_not_travel(tmp_path):
    p = read_photo(packed(Image.fromarray(noise(6,5,3)), 'TIFF', description='Aunt May', compression='tiff_lzw'))
    with Image.open(save_photo(p.rgb, tmp_path/'x.jpg', like=p)) as im: assert set(im.getexif()) <= room.TIFF_KEEPS and im.getexif()[270] == 'Aunt May'

def test_nothing_half_written(tmp_path, monkeypatch):
    f = save_photo(Image.new('RGB', (2,2), 'red'), tmp_path/'x.png'); before = f.read_bytes()
    def full(self, fp, *args, **kw): fp.write(b'half'); raise OSError(28, 'No space left on device')
    monkeypatch.setattr(Image.Image, 'save', full)
    with pytest.raises(PhotoError, match='x.png: cannot be written .No space left'): save_photo(Image.new('RGB', (2,2)), f)
    assert f.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ['x.png']

@pytest.mark.parametrize('path,im,match', [('a.heic', Image.new('RGB', (2,2)), 'expected one of .jpg'), ('a', Image.new('RGB', (2,2)), 'without suffix'),
    ('a.png', Image.new('L', (2,2)), "mode 'L'"), ('a.webp', Image.new('RGB', (17_000,1)), 'cannot be written')])
def test_what_cannot_be_written(tmp_path, path, im, match):
    with pytest.raises(ValueError, match=match) as e: save_photo(im, tmp_path/path)
    assert '\n' not in str(e.value) and not list(tmp_path.iterdir())

# Finding

def test_finding(tmp_path):
    for n in ('b.JPG', 'a/c.tiff', 'a/.secret/d.jpg', '._b.JPG', 'e.txt', 'dir.jpg/f.png'): (tmp_path/n).parent.mkdir(parents=True, exist_ok=True); (tmp_path/n).touch()
    assert [str(p.relative_to(tmp_path)) for p in photo_files(tmp_path)] == ['a/c.tiff', 'b.JPG', 'dir.jpg/f.png']
    assert photo_files(tmp_path/'e.txt') == [tmp_path/'e.txt']
    assert photo_files([tmp_path/'a', str(tmp_path/'b.JPG'), tmp_path/'b.JPG']) == [tmp_path/'a/c.tiff', tmp_path/'b.JPG']
    assert photo_files(o for o in [tmp_path/'a']) == [tmp_path/'a/c.tiff']
    hidden = tmp_path/'a/.secret'; assert photo_files(hidden) == [hidden/'d.jpg']  # asked for by name

def test_samples(monkeypatch):
    for grey in (False, True):
        for p in sample_photos(grey).values(): assert (np.ptp(arr(read_rgb(p)), axis=2).max() == 0) == grey
    monkeypatch.setitem(room.SAMPLES, 'yeti', 'yeti.png')
    with pytest.raises(PhotoError, match='lacks the sample photos yeti.png'): sample_photos()
    monkeypatch.setattr(room.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(PhotoError, match='pip install scikit-image'): sample_photos()
