"Pairs of pictures: both halves see the same crop and the same mirror, whatever reads them, and a pass can be gone on with"
import numpy as np, pytest, torch
from PIL import Image
from colorize_fastai.pairs import pairs_dls
from colorize_fastai.photo import PhotoError

@pytest.fixture
def folder(tmp_path):
    "Pairs whose right picture is the negative of the left one, so that any crop and mirror of one can be told from the other"
    rng = np.random.default_rng(0)
    for n in range(10):
        px = np.asarray(Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize((48, 48), Image.Resampling.BICUBIC))
        Image.fromarray(np.concatenate([px, 255 - px], 1)).save(tmp_path/f'{"val" if n > 7 else "train"}_{n}_AB.png')
    return tmp_path

def passed(dls, epoch, step=0):
    dls.train.set_epoch(epoch, step)
    return list(dls.train)

def test_both_pictures_are_cropped_and_mirrored_alike(folder):
    dls = pairs_dls(folder, size=32, bs=4, load_size=40, num_workers=0, device='cpu')
    assert len(dls.train_ds) == 8 and len(dls.valid_ds) == 2
    batches = [b for e in range(4) for b in passed(dls, e)]
    assert all((x + y).abs().max() < 3/127.5 for x,y in batches) # resizing rounds each picture on its own
    assert len({x.numpy().tobytes() for x,_ in batches}) == len(batches)

@pytest.mark.slow
def test_workers_and_resuming_change_nothing(folder):
    one, two = (pairs_dls(folder, 'BtoA', size=32, bs=2, load_size=40, num_workers=n, device='cpu') for n in (0, 2))
    first, again, rest = passed(one, 3), passed(two, 3), passed(one, 3, 2)
    assert len(first) == 4
    for a,b in zip(first, again, strict=True): assert all(torch.equal(o, p) for o,p in zip(a, b, strict=True))
    for a,b in zip(first[2:], rest, strict=True): assert all(torch.equal(o, p) for o,p in zip(a, b, strict=True))

def test_pictures_of_odd_width_are_refused(tmp_path):
    Image.new('RGB', (49, 24)).save(tmp_path/'a.png'); Image.new('RGB', (48, 24)).save(tmp_path/'b.png')
    with pytest.raises(PhotoError, match='a.png: 49 pixels wide, expected two pictures of one width'):
        list(pairs_dls(tmp_path, size=16, bs=2, valid_pct=0, num_workers=0, device='cpu').train)
