"Loaders and splits: repeatable to the bit, and the colors are scikit-image's."
import shutil
import numpy as np, pandas as pd, pytest, torch
from fastai.data.external import URLs
from PIL import Image
from skimage.color import rgb2lab
from colorize_fastai import data
from colorize_fastai.data import colorize_dls, crop_flip, read_split, save_split, scan_photos, split_photos
from colorize_fastai.photo import PhotoError, read_rgb, sample_photos

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
        ours = torch.cat([(l+1)*50, c*110]).permute(1, 2, 0).numpy()
        assert np.abs(ours - lab).max() < 1e-2

def test_crop_flip_covers_everything():
    x = torch.arange(36).view(1, 1, 6, 6).expand(500, -1, -1, -1)
    y = crop_flip(x, 4, np.random.default_rng(0))
    kinds = {tuple(o.flatten().tolist()) for o in y}
    want = {tuple(p.flatten().tolist()) for i in range(3) for j in range(3) for o in [x[0, 0, i:i+4, j:j+4]] for p in (o, o.flip(-1))}
    assert kinds == want

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
