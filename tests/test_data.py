"Loaders and splits: repeatable to the bit, and the colors are scikit-image's."
import hashlib, json, os, pickle, shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import numpy as np, pandas as pd, pytest, torch
from fastai.data.external import URLs
from PIL import Image
from skimage.color import rgb2lab
from colorize_fastai import cache as room, data, photo
from colorize_fastai.color import to_L_ab
from colorize_fastai.cache import cache_photos
from colorize_fastai.data import age, colorize_dls, draw_crops, read_split, save_split, scan_photos, split_photos
from colorize_fastai.photo import PhotoError, photo_grid, read_rgb, read_square, resize_part, resizes, sample_photos

@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    "Twelve crops of the packaged photographs in two folders, as PNG"
    root = tmp_path_factory.mktemp('photos')
    for sub in ('a', 'b/deep'): (root/sub).mkdir(parents=True)
    for i, (k, f) in enumerate(list(sample_photos().items())[:4]):
        im = read_rgb(f)
        for j in range(3): im.crop((10*j, 20*j, 10*j+120, 20*j+150)).save(root/('a' if i % 2 else 'b/deep')/f'{k}{j}.png')
    return root

def dls_of(folder, **kw): return colorize_dls(folder, **{**dict(size=32, bs=4, valid_pct=.25, num_workers=0, device='cpu', verbose=False), **kw})
def same(a, b): return len(a) == len(b) and all(torch.equal(p, q) for x, y in zip(a, b) for p, q in zip(x, y))

def test_counts_and_shapes(folder, capsys):
    dls = dls_of(folder, verbose=True)
    assert (len(dls.train_ds), len(dls.valid_ds)) == (9, 3)
    assert '12 photos: 9 to train on, 3 to validate on' in capsys.readouterr().out
    L, ab = dls.one_batch()
    assert L.shape == (4, 1, 32, 32) and ab.shape == (4, 2, 32, 32) and L.dtype == ab.dtype == torch.float32
    assert type(L) is torch.Tensor

@pytest.mark.parametrize('workers', [1, 2])
def test_workers_change_nothing(folder, workers):
    a, b = dls_of(folder), dls_of(folder, num_workers=workers)
    for _ in range(2): assert same(list(a.train), list(b.train))
    assert same(list(a.valid), list(b.valid))

@pytest.mark.parametrize('workers', [0, 2])
def test_a_position_is_all_that_resuming_needs(folder, workers):
    whole = dls_of(folder, num_workers=workers, bs=2).train
    epochs = [list(whole) for _ in range(3)]
    again = dls_of(folder, num_workers=workers, bs=2).train
    again.set_epoch(1, 2)
    assert same(list(again), epochs[1][2:])
    assert same(list(again), epochs[2])
    assert not same(epochs[0], epochs[1])

def test_a_look_at_a_batch_disturbs_nothing(folder):
    a, b = dls_of(folder), dls_of(folder)
    state = torch.get_rng_state()
    b.one_batch(); b.train.show_batch(max_n=2)
    assert torch.equal(torch.get_rng_state(), state)
    assert same(list(a.train), list(b.train))

def test_another_seed_another_order(folder):
    assert not same(list(dls_of(folder).train), list(dls_of(folder, seed=1, split=dls_of(folder).split).train))

def test_validation_is_the_middle_square_in_scikit_images_lab(folder):
    dls = dls_of(folder)
    L, ab = next(iter(dls.valid))
    for l, c, f in zip(L, ab, dls.valid_ds):
        im = Image.open(f).convert('RGB')
        s = min(im.size); x, y = (im.width-s)//2, (im.height-s)//2
        lab = rgb2lab(np.asarray(im.resize((32, 32), Image.Resampling.BICUBIC, box=(x, y, x+s, y+s), reducing_gap=3)))
        off = np.abs(torch.cat([(l+1)*50, c*110]).permute(1, 2, 0).numpy() - lab)
        assert off.max() < 1.5 and (off > 1e-2).mean() < .02 # torch's bicubic rounds a few bytes to their neighbor

def crop_flip(x, size, rng):
    "Crops and flips of a batch as indices into it: the choices that trainings were always made with"
    n, span = len(x), torch.arange(size)
    top, left = torch.from_numpy(rng.integers(0, x.shape[-1]-size+1, (2, n)))
    rows, cols = top[:,None] + span, left[:,None] + span
    flip = torch.from_numpy(rng.random(n) < .5)
    cols[flip] = cols[flip].flip(1)
    return x.permute(0,2,3,1)[torch.arange(n)[:,None,None], rows[:,:,None], cols[:,None,:]].permute(0,3,1,2)

@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('resize', resizes)
def test_crops_are_drawn_a_batch_at_a_time(folder, workers, resize):
    dl = dls_of(folder, bs=2, num_workers=workers, resize=resize, valid_pct=0).train
    for epoch in range(2):
        order = np.random.default_rng((42, 0, epoch)).permutation(12)
        batches = list(dl)
        assert len(batches) == 6
        for step, got in enumerate(batches):
            squares = [read_square(dl.dataset[int(i)], 40, np.random.default_rng((42, 1, epoch, i)).random(), resize) for i in order[2*step:2*step+2]]
            want = to_L_ab(crop_flip(torch.stack(squares), 32, np.random.default_rng((42, 2, epoch, step)))/255)
            for p, q in zip(got, want, strict=True): assert torch.allclose(p, q, atol=2e-6, rtol=0)

def test_draw_crops_covers_everything():
    crops = draw_crops(500, 2, np.random.default_rng(0))
    assert set(crops) == {(i, j, f) for i in range(3) for j in range(3) for f in (False, True)}
    assert 200 < sum(f for *_, f in crops) < 300

sizes = [(480, 640, 320), (427, 640, 320), (640, 427, 320), (100, 100, 37), (64, 90, 200), (33, 20, 320), (1, 1, 8), (1, 40, 16), (3000, 2000, 96),
         (612, 276, 160), (340, 726, 200), (242, 795, 448)]

def noisy(h, w, seed=0): return np.random.default_rng(seed).integers(0, 256, (h, w, 3), np.uint8)

@pytest.mark.parametrize('h,w,side', sizes)
def test_a_part_of_the_grid_is_the_part_of_the_grid(h, w, side):
    px, rng = noisy(h, w), np.random.default_rng(1)
    gh, gw = (o*side//min(h, w) for o in (h, w))
    grid = resize_part(px, side, 0, 0, gh, gw)
    assert grid.shape == (gh, gw, 3) and min(gh, gw) == side
    for _ in range(20):
        y, x = int(rng.integers(0, gh)), int(rng.integers(0, gw))
        n, m = int(rng.integers(1, gh-y+1)), int(rng.integers(1, gw-x+1))
        assert np.array_equal(resize_part(px, side, y, x, n, m), grid[y:y+n, x:x+m])

@pytest.mark.parametrize('h,w,side', [o for o in sizes if o[0]*o[2] % min(o[:2]) == o[1]*o[2] % min(o[:2]) == 0] + [(480, 600, 320), (80, 60, 90)])
def test_resizing_is_pillows_bicubic(h, w, side):
    gh, gw = (o*side//min(h, w) for o in (h, w))
    pil = np.asarray(Image.fromarray(noisy(h, w)).resize((gw, gh), Image.Resampling.BICUBIC)).astype(int)
    off = np.abs(resize_part(noisy(h, w), side, 0, 0, gh, gw) - pil)
    assert off.max() <= (1 if side < 2*min(h, w) else 2) and (off > 1).mean() < 1e-3 and off.mean() < .01

def test_stretching_is_pillows_but_for_rounding(folder):
    for f in folder.rglob('*.png'):
        want = np.asarray(Image.open(f).convert('RGB').resize((40, 40), Image.Resampling.BICUBIC)).astype(int)
        square = read_square(f, 40, resize='stretch').permute(1, 2, 0).numpy()
        assert (off := np.abs(square - want)).max() <= 1 and (off > 0).mean() < .02
        assert np.array_equal(read_square(f, 40, resize='stretch', crop=(3, 5, 32)).permute(1, 2, 0), square[3:35, 5:37])

# The cache

@pytest.mark.parametrize('workers,kw', [(w, kw) for kw in (dict(), dict(resize='stretch'), dict(load_size=32), dict(resize='stretch', load_size=32)) for w in ((0, 2) if kw == {} else (0,))])
def test_cached_batches_are_the_same(folder, tmp_path, workers, kw):
    plain = dls_of(folder, **kw)
    for _ in range(2): # made, found
        cached = dls_of(folder, cache=tmp_path/'c', num_workers=workers, **kw)
        assert cached.train_ds.cache.made_for(kw.get('load_size', 40), kw.get('resize', 'crop')) and cached.valid_ds.cache
        for _ in range(2): assert same(list(plain.train), list(cached.train)) and same(list(plain.valid), list(cached.valid))
        plain.train.set_epoch(0)

def counted(monkeypatch, module, name):
    seen, real = [], getattr(module, name)
    monkeypatch.setattr(module, name, lambda f, *args, **kw: (seen.append(Path(f).name), real(f, *args, **kw))[1])
    return seen

def test_only_what_changed_is_made_again(folder, tmp_path, monkeypatch):
    files = [Path(shutil.copy(f, tmp_path)) for f in sorted(folder.rglob('*.png'))[:4]]
    made, looked = counted(monkeypatch, room, 'photo_grid'), counted(monkeypatch, data, '_look')
    def again():
        made.clear(); looked.clear()
        df = scan_photos(files, cache=tmp_path/'c')
        cache = cache_photos(files, tmp_path/'c', 40)
        assert df.equals(scan_photos(files))
        for f in files: assert np.array_equal(cache.grid(f), photo_grid(f, 40, 'crop'))
        del looked[-len(files):] # of the comparison
        return sorted(made), sorted(looked)
    names = [f.name for f in files]
    assert again() == (names, names)
    assert again() == ([], [])
    Image.open(files[1]).rotate(180).save(files[1])
    os.utime(files[2], ns=(1, 1))
    assert again() == (names[1:3], names[1:3])
    last = files.pop()
    assert again() == ([], [])
    os.remove(last)
    assert again() == ([], [])
    made.clear(); cache_photos(files, tmp_path/'c', 32); assert sorted(made) == names[:3] # another size, another cache
    made.clear(); cache_photos(files, tmp_path/'c', 40, 'stretch'); assert sorted(made) == names[:3]

@pytest.mark.parametrize('harm', [lambda raw: b'', lambda raw: raw[:-1], lambda raw: raw[:len(raw)//2], lambda raw: raw[:-100] + b'x' + raw[-99:],
                                  lambda raw: raw[:-8] + (2**60).to_bytes(8, 'little'), lambda raw: os.urandom(1000)])
def test_a_damaged_cache_is_made_anew(folder, tmp_path, harm):
    files = sorted(folder.rglob('*.png'))[:3]
    path = cache_photos(files, tmp_path, 40).path
    scan_photos(files, cache=tmp_path)
    path.write_bytes(harm(path.read_bytes())); (tmp_path/'scan.json').write_bytes(harm((tmp_path/'scan.json').read_bytes()))
    cache = cache_photos(files, tmp_path, 40)
    for f in files: assert np.array_equal(cache.grid(f), photo_grid(f, 40, 'crop'))
    assert scan_photos(files, cache=tmp_path).equals(scan_photos(files))

def test_another_format_is_made_anew(folder, tmp_path):
    "A whole cache, but of another release"
    files = sorted(folder.rglob('*.png'))[:3]
    path = cache_photos(files, tmp_path, 40).path
    now = path.read_bytes()
    n = int.from_bytes(now[-8:], 'little')
    index = json.loads(now[-40 - n:-40])
    index['made'][0] -= 1
    index = json.dumps(index).encode()
    path.write_bytes(b'\0'*(len(now) - 40 - n) + index + hashlib.sha256(index).digest() + len(index).to_bytes(8, 'little'))
    assert cache_photos(files, tmp_path, 40).path.read_bytes() == now

def test_a_full_disk(folder, tmp_path, tmp_path_factory, monkeypatch):
    files = sorted(folder.rglob('*.png'))
    first = cache_photos(files[:3], tmp_path, 40)
    before = first.path.read_bytes()
    def full(*args): raise OSError(28, 'No space left on device')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        for call in (lambda: cache_photos(files, tmp_path, 40), lambda: scan_photos(files, cache=tmp_path)):
            with pytest.raises(PhotoError, match='cannot be written .No space left on device.; check .* free space'): call()
    with monkeypatch.context() as m:
        m.setattr(shutil, 'disk_usage', lambda p: type('Usage', (), dict(free=10)))
        d = tmp_path_factory.mktemp('many')
        many = [shutil.copy(files[i % 12], d/f'{i}.png') for i in range(65)] # it looks at the disk after 64
        with pytest.raises(PhotoError, match='the cache of 65 photos takes about 0.0 GB, but only 0.0 GB are free; give a folder'): cache_photos(many, tmp_path, 40)
    assert first.path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == [first.path.name]

def test_a_cache_made_anew_meanwhile(folder, tmp_path):
    files = sorted(folder.rglob('*.png'))
    mapped, unmapped = cache_photos(files[:3], tmp_path, 40), cache_photos(files[:3], tmp_path, 40)
    want = mapped.grid(files[0]).copy()
    cache_photos(files[3:], tmp_path, 40)
    assert np.array_equal(mapped.grid(files[0]), want) # what is mapped stays
    with pytest.raises(PhotoError, match='made anew or removed while in use; start again'): unmapped.grid(files[0])

def test_a_cache_travels_without_its_memory(folder, tmp_path):
    files = sorted(folder.rglob('*.png'))[:2]
    cache = cache_photos(files, tmp_path, 40)
    want = cache.grid(files[0])
    assert len(raw := pickle.dumps(cache)) < 5000 and np.array_equal(pickle.loads(raw).grid(files[0]), want)
    dls = dls_of(folder, cache=tmp_path)
    assert all(o.cache is None and not len(o) for o in (d.dataset for d in dls.new_empty().loaders))

def test_very_long_photos_stay_outside(tmp_path):
    for n, size in (('a', (1000, 20)), ('b', (20, 330)), ('c', (30, 20))): Image.fromarray(noisy(*size[::-1])).save(tmp_path/f'{n}.png')
    plain, cached = dls_of(tmp_path, bs=3, valid_pct=0), dls_of(tmp_path, bs=3, valid_pct=0, cache=tmp_path/'.cache')
    assert [cached.train_ds.cache.grid(tmp_path/f'{n}.png') is None for n in 'abc'] == [True, True, False]
    for _ in range(3): assert same(list(plain.train), list(cached.train))

def test_very_long_photos_are_never_enlarged_whole(tmp_path, monkeypatch):
    Image.fromarray(noisy(1, 30_000)).save(tmp_path/'line.png') # 320 rows of 9.6 million pixels
    most, real = [], photo.F.interpolate
    monkeypatch.setattr(photo.F, 'interpolate', lambda *a, **kw: (most.append(real(*a, **kw)), most[-1])[1])
    dls = dls_of(tmp_path, size=256, valid_pct=0, cache=tmp_path/'.cache')
    for _ in range(3): list(dls.train)
    assert max(o.numel() for o in most) < 3*320*3000 # a pixel of the line is 320 wide

def test_two_trainings_make_one_cache_at_a_time(folder, tmp_path):
    files = sorted(folder.rglob('*.png'))
    with ThreadPoolExecutor(4) as ex: caches = list(ex.map(lambda _: cache_photos(files, tmp_path, 40), range(4)))
    for c in caches: assert np.array_equal(c.grid(files[5]), photo_grid(files[5], 40, 'crop'))
    assert [p.name for p in tmp_path.iterdir()] == ['crop-40.photos']

def test_split_survives_a_move(folder, tmp_path):
    shutil.copytree(folder, tmp_path/'moved')
    a, b = dls_of(folder).split, dls_of(tmp_path/'moved').split
    assert a.equals(b) and a.is_valid.sum() == 3
    assert not a.equals(split_photos([folder/f for f in a.file], folder, .25, seed=7))

def test_split_from_file_frame_and_list(folder, tmp_path):
    split = dls_of(folder).split
    save_split(split, tmp_path/'s.csv')
    assert read_split(tmp_path/'s.csv').equals(split)
    want = {f for f in split.file[split.is_valid]}
    for src, kw in ((folder, dict(split=tmp_path/'s.csv')), (split, dict(path=folder)), ([folder/f for f in split.file], dict(path=folder, split=split))):
        assert {f.relative_to(folder).as_posix() for f in dls_of(src, **kw).valid_ds} == want
    pd.DataFrame(dict(a=[1])).to_csv(tmp_path/'no.csv')
    with pytest.raises(ValueError, match="lacks the column.*file.*is_valid"): read_split(tmp_path/'no.csv')
    with pytest.raises(PhotoError, match='of the 12 photos of the split are not under'): dls_of(folder/'a', split=split)

def test_url_is_one_line(folder, monkeypatch):
    asked = []
    monkeypatch.setattr(data, 'untar_data', lambda url: asked.append(url) or folder)
    assert len(dls_of(URLs.COCO_SAMPLE).train_ds) == 9 and asked == [URLs.COCO_SAMPLE]

def test_max_photos_is_a_stable_draw(folder):
    few, fewer = (set(dls_of(folder, max_photos=n).split.file) for n in (8, 5))
    assert (len(few), len(fewer)) == (8, 5) and fewer < few

@pytest.fixture
def mixed(folder, tmp_path):
    "Six good photos, five bad files, a grey photo"
    for f in sorted((folder/'a').iterdir()): shutil.copy(f, tmp_path)
    whole = sample_photos()['rocket'].read_bytes()
    for name, raw in (('empty.jpg', b''), ('cut.jpg', whole[:len(whole)//2]), ('page.jpg', b'<html>'*99), ('text.png', b'hello')): (tmp_path/name).write_bytes(raw)
    (tmp_path/'folder.jpg').mkdir()
    shutil.copy(sample_photos(grey=True)['camera'], tmp_path/'grey.png')
    return tmp_path

def test_bad_files_are_skipped_and_named(mixed, capsys):
    dls = dls_of(mixed)
    out = capsys.readouterr().out
    assert len(dls.split) == 7
    for name in ('empty.jpg', 'cut.jpg', 'page.jpg', 'text.png'): assert f'{name}' in out
    assert sum(1 for _ in dls.train) == 1

def test_dull_photos_are_dropped_with_a_count(mixed, capsys):
    dls = dls_of(mixed, min_colorfulness=5)
    assert 'grey.png' not in set(dls.split.file) and len(dls.split) == 6
    assert 'dropped: 1 of' in capsys.readouterr().out

def test_scan_reports_every_file(mixed):
    df = scan_photos(sorted(mixed.glob('*.[jp]*g')))
    assert set(df.file[df.error == ''].map(lambda o: o.split('/')[-1])) == {'grey.png', *(p.name for p in mixed.glob('*[0-9].png'))}
    assert df.colorfulness[df.error != ''].isna().all()

def test_one_photo_of_one_pixel(tmp_path):
    Image.new('RGB', (1, 1), (200, 30, 30)).save(tmp_path/'dot.png')
    dls = dls_of(tmp_path, valid_pct=0)
    L, ab = dls.one_batch()
    assert L.shape == (1, 1, 32, 32) and ab.isfinite().all()

def test_errors_say_what_to_do(folder, tmp_path):
    with pytest.raises(PhotoError, match='nowhere'): dls_of(tmp_path/'nowhere')
    with pytest.raises(PhotoError, match=str(tmp_path.name)): dls_of(tmp_path)
    with pytest.raises(ValueError, match='load_size 16 is smaller'): dls_of(folder, load_size=16)
    with pytest.raises(ValueError, match='give one of them'): dls_of(folder, split=dls_of(folder).split, max_photos=3)
    with pytest.raises(ValueError, match='size=0'): dls_of(folder, size=0)
    with pytest.raises(ValueError, match='between 0 and 1'): dls_of(folder, valid_pct=10)

def test_show_batch_as_fastai_has_it(folder):
    "`nrows` rows of photos, and `unique`: one photo as augmentation makes it, which moves the training on by nothing"
    import matplotlib.pyplot as plt
    dls = dls_of(folder)
    before = (dls.train.epoch, dls.train.start_step)
    dls.show_batch(max_n=4, nrows=2, unique=True)
    axes = plt.gcf().axes
    assert len(axes) == 8 and [a.get_ylabel().strip() for a in axes[::2]] == ['grey', 'color', 'grey', 'color']
    pictures = [np.asarray(a.images[0].get_array()) for a in axes if a.images]
    assert len({p.tobytes() for p in pictures[2:4] + pictures[6:8]}) > 1 and (dls.train.epoch, dls.train.start_step) == before
    plt.close()

def test_zoom_and_age_are_repeatable(folder):
    "With any number of workers, and again from the middle of an epoch"
    a, b = (dls_of(folder, num_workers=n, zoom=2., aged=.5, size=24, load_size=32) for n in (0, 2))
    plain = dls_of(folder, size=24, load_size=32)
    for _ in range(2): one = list(a.train); assert same(one, list(b.train))
    a.train.set_epoch(1, 1)
    assert same(list(a.train), one[1:])
    assert same(list(plain.valid), list(a.valid)) # what is measured is as it was
    plain.train.set_epoch(1)
    assert not same(list(plain.train), one)

def test_zoom_enlarges_a_part(tmp_path):
    "On a ramp, the steps between pixels become smaller by just the zoom, and at 1 nothing changes"
    ramp = np.repeat(np.linspace(0, 255, 64, dtype=np.uint8)[None], 64, 0)
    for i in range(8): Image.fromarray(np.stack([ramp, ramp//2, ramp//3], -1)).save(tmp_path/f'{i}.png')
    def slopes(zoom):
        dls = dls_of(tmp_path, valid_pct=0, size=64, load_size=64, bs=8, zoom=zoom)
        rgb = torch.cat([b for b in dls.train.create_batches(iter(range(8)))]).float()
        return ((rgb[:,0,:,48] - rgb[:,0,:,16])/32).mean(1).abs()
    full, zoomed = slopes(1.), slopes(3.)
    assert torch.allclose(full, torch.full((8,), 255/63), atol=.05)
    assert (zoomed < full + .05).all() and (zoomed > full/3 - .05).all() and zoomed.std() > .3

def test_age_against_scipy():
    "With the middle of each range drawn: blurred by half, contrast 0.9, grain of 1.25 units"
    from scipy.ndimage import uniform_filter
    class Middle:
        def uniform(self, lo, hi, shape): return np.full(shape, (lo + hi)/2)
        def integers(self, n): return 7
    L = torch.rand(3, 1, 9, 8).double()*1.9 - .95
    x = ((L + 1)/2).numpy()
    x = (x + np.stack([uniform_filter(o[0], 3, mode='nearest')[None] for o in x]))/2
    mean = x.mean((1, 2, 3), keepdims=True)
    noise = torch.randn(L.shape, generator=torch.Generator().manual_seed(7)).numpy()
    want = (x - mean)*.9 + mean + .0125*noise
    assert np.allclose((age(L, 1., Middle()).numpy() + 1)/2, want.clip(0, 1), atol=1e-6)

@pytest.mark.parametrize('kw', [dict(zoom=.5), dict(aged=1.5), dict(aged=-.1)])
def test_wrong_chances(folder, kw):
    with pytest.raises(ValueError, match='zoom is 1 or more and aged a share'): dls_of(folder, **kw)

def test_grey_photos_to_train_on(tmp_path, capsys):
    "Some are named and counted, or left out if that is asked for; a folder of nothing else is refused before anything is trained"
    for i in range(4): Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40), np.uint8)).save(tmp_path/f'g{i}.jpg')
    with pytest.raises(PhotoError, match=r'4 of 4 photos are grey \(g0.jpg, g1.jpg, g2.jpg, …\): they have no color to learn'): dls_of(tmp_path)
    for i in range(6): read_rgb(sample_photos()['coffee']).crop((50*i, 0, 50*i + 100, 100)).save(tmp_path/f'c{i}.jpg')
    capsys.readouterr()
    dls = dls_of(tmp_path, verbose=True)
    out = capsys.readouterr().out
    assert '4 of 10 photos are grey (g0.jpg, g1.jpg, g2.jpg, …)' in out and '--min-colorfulness 1' in out and len(dls.train_ds) + len(dls.valid_ds) == 10
    dls = dls_of(tmp_path, min_colorfulness=1)
    assert len(dls.train_ds) + len(dls.valid_ds) == 6 and 'are grey' not in capsys.readouterr().out
