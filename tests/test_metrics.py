"""Scores against scikit-image and the papers' own figures; evaluation, baselines and intervals against what must come out."""
import pickle, subprocess, sys
from types import SimpleNamespace
import numpy as np
import pytest
import torch
from PIL import Image
from skimage.color import deltaE_ciede2000
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from colorize_fastai.color import AB_SCALE, from_L_ab, to_L_ab
from colorize_fastai.metrics import (_batches, best_tint, bootstrap, ciede2000, colorfulness, compare, delta_e, evaluate, grey, mean_ab_per_L, psnr,
    scores, ssim, summarize, train_metrics)
from colorize_fastai.photo import sample_photos

# Sharma, Wu, Dalal: The CIEDE2000 color-difference formula, Color Research & Application 30(1), 2005, table 1: L1 a1 b1  L2 a2 b2  ΔE00
SHARMA = np.array('''
50.0000 2.6772 -79.7751 50.0000 0.0000 -82.7485 2.0425
50.0000 3.1571 -77.2803 50.0000 0.0000 -82.7485 2.8615
50.0000 2.8361 -74.0200 50.0000 0.0000 -82.7485 3.4412
50.0000 -1.3802 -84.2814 50.0000 0.0000 -82.7485 1.0000
50.0000 -1.1848 -84.8006 50.0000 0.0000 -82.7485 1.0000
50.0000 -0.9009 -85.5211 50.0000 0.0000 -82.7485 1.0000
50.0000 0.0000 0.0000 50.0000 -1.0000 2.0000 2.3669
50.0000 -1.0000 2.0000 50.0000 0.0000 0.0000 2.3669
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0009 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0010 7.1792
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0011 7.2195
50.0000 2.4900 -0.0010 50.0000 -2.4900 0.0012 7.2195
50.0000 -0.0010 2.4900 50.0000 0.0009 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0010 -2.4900 4.8045
50.0000 -0.0010 2.4900 50.0000 0.0011 -2.4900 4.7461
50.0000 2.5000 0.0000 50.0000 0.0000 -2.5000 4.3065
50.0000 2.5000 0.0000 73.0000 25.0000 -18.0000 27.1492
50.0000 2.5000 0.0000 61.0000 -5.0000 29.0000 22.8977
50.0000 2.5000 0.0000 56.0000 -27.0000 -3.0000 31.9030
50.0000 2.5000 0.0000 58.0000 24.0000 15.0000 19.4535
50.0000 2.5000 0.0000 50.0000 3.1736 0.5854 1.0000
50.0000 2.5000 0.0000 50.0000 3.2972 0.0000 1.0000
50.0000 2.5000 0.0000 50.0000 1.8634 0.5757 1.0000
50.0000 2.5000 0.0000 50.0000 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082'''.split(), float).reshape(-1, 7)

files = list(sample_photos().values())

@pytest.fixture(scope='module')
def pair():
    "Three photos and a noisy copy, neither square"
    true = torch.stack([torch.from_numpy(np.array(Image.open(p).convert('RGB').resize((90, 70)))) for p in files[:3]]).movedim(-1, 1)/255
    noise = torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
    return (true + noise*torch.tensor([.02, .08, .3])[:,None,None,None]).clamp(0, 1), true

def hwc(x): return x.movedim(0, -1).double().numpy()

def test_psnr_is_scikit_images(pair):
    want = [peak_signal_noise_ratio(hwc(t), hwc(p), data_range=1) for p,t in zip(*pair)]
    assert psnr(*pair).tolist() == pytest.approx(want, abs=1e-4)
    assert psnr(pair[1], pair[1]).isinf().all()

@pytest.mark.parametrize('dtype, tol', [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_ssim_is_scikit_images(pair, dtype, tol):
    kw = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=1)
    want = [structural_similarity(hwc(p), hwc(t), **kw) for p,t in zip(*pair)]
    assert ssim(*[x.to(dtype) for x in pair]).tolist() == pytest.approx(want, abs=tol)

def test_autocast_and_half_do_not_blur_the_scores(pair):
    want = scores(*pair)
    with torch.autocast('cpu', torch.bfloat16): got = scores(*pair)
    assert all(torch.equal(got[k], want[k]) for k in want)
    assert ssim(pair[0].half(), pair[1].half()).tolist() == pytest.approx(want['ssim'].tolist(), abs=1e-3)

def test_ciede2000_gives_the_papers_table():
    lab = torch.from_numpy(SHARMA)
    assert lab.shape == (34, 7)
    for a,b in (slice(3), slice(3, 6)),(slice(3, 6), slice(3)): # it is symmetric
        got = ciede2000(lab[:,a].T[:,None], lab[:,b].T[:,None])[0]
        assert got.tolist() == pytest.approx(SHARMA[:,6].tolist(), abs=5.1e-5) # the table has four digits

def test_ciede2000_is_scikit_images():
    x = torch.rand(2, 3, 400, 400, dtype=torch.float64, generator=torch.Generator().manual_seed(0))*2 - 1
    x = x*torch.tensor([50, 110, 110])[:,None,None] + torch.tensor([50, 0, 0])[:,None,None]
    want = deltaE_ciede2000(*x.numpy(), channel_axis=0)
    assert np.abs(ciede2000(*x).numpy() - want).max() < 1e-6
    assert np.abs(ciede2000(*x.float()).numpy() - want).max() < 1e-2

def test_ciede2000_has_the_right_finite_gradients():
    lab = torch.from_numpy(SHARMA[[0, 16, 17, 18, 24, 27]])
    a,b = (lab[:,i].T[:,None].contiguous().requires_grad_() for i in (slice(3), slice(3, 6)))
    assert torch.autograd.gradcheck(ciede2000, (a, b))
    a = torch.tensor([[0., 50, 50, 100, 50], [0, 0, 10, 0, 0], [0, 0, 0, 0, 0]])[:,None].requires_grad_()
    ciede2000(a, torch.tensor([[0., 50, 50, 100, 60], [0, 20, 10, 0, 0], [0, 5, 0, 0, 0]])[:,None]).sum().backward()
    assert a.grad.isfinite().all()

def test_colorfulness_is_the_papers(pair):
    def m3(im): # written from section 6 of Hasler and Süsstrunk, in numpy
        R,G,B = (im[...,i]*255. for i in range(3))
        rg,yb = R - G,.5*(R + G) - B
        return np.hypot(np.std(rg), np.std(yb)) + .3*np.hypot(np.mean(rg), np.mean(yb))
    assert colorfulness(pair[1]).tolist() == pytest.approx([m3(hwc(t)) for t in pair[1]], rel=1e-5)
    assert colorfulness(torch.full((1, 3, 4, 4), .5)).tolist() == [0]
    x = torch.full((1, 3, 4, 4), .5, requires_grad=True)
    colorfulness(x).sum().backward()
    assert x.grad.isfinite().all()

@pytest.mark.parametrize('f', [psnr, ssim, delta_e])
def test_shapes_must_match(pair, f):
    with pytest.raises(ValueError, match=f'{f.__name__} got shapes .* expected'): f(pair[0], pair[1][...,1:])
    with pytest.raises(ValueError, match='expected'): f(pair[0][0], pair[1][0])
    with pytest.raises(ValueError, match='divide 8-bit'): f(pair[0].mul(255).byte(), pair[1])
def test_ssim_needs_its_window(pair):
    with pytest.raises(ValueError, match='at least 11'): ssim(pair[0][...,:10], pair[1][...,:10])
def test_ciede2000_shapes():
    with pytest.raises(ValueError, match='L\\*a\\*b\\* of one size'): ciede2000(torch.zeros(3, 2, 2), torch.zeros(3, 2, 1))

# evaluate, compare
def test_evaluate_scores_what_it_is_told_to(tmp_path):
    seen = []
    def half(im):
        seen.append(im)
        return im.point(lambda v: v//2)
    df = evaluate(half, files, size=64)
    assert df.file.tolist() == [str(p) for p in files] and df.attrs['skipped'] == {}
    assert all(im.mode == 'RGB' and im.size == (64, 64) and len({im.getchannel(c).tobytes() for c in 'RGB'}) == 1 for im in seen)
    for p,im,row in zip(files, seen, df.itertuples()):
        ref = Image.open(p).convert('RGB')
        side = min(ref.size)
        box = [(ref.width - side)/2, (ref.height - side)/2, (ref.width + side)/2, (ref.height + side)/2]
        ref = np.asarray(ref.resize((64, 64), Image.Resampling.BICUBIC, box=box))/255
        assert row.psnr == pytest.approx(peak_signal_noise_ratio(ref, np.asarray(half(im))/255, data_range=1), abs=.2)
        assert row.colorfulness == 0 < row.colorfulness_true

def test_pictures_and_batches_are_the_same_path():
    a,b = evaluate(lambda im: im, files, size=64, bs=2),evaluate(grey(), files, size=64)
    assert np.allclose(a[['psnr', 'ssim', 'delta_e']], b[['psnr', 'ssim', 'delta_e']], atol=.02)

def test_stretch_shows_the_whole_photo(tmp_path):
    im = np.zeros((30, 90, 3), np.uint8)
    im[:,30:60] = 255 # the middle third is white
    Image.fromarray(im).save(tmp_path/'a.png')
    seen = {}
    for k in 'crop','stretch': evaluate(lambda o: seen.setdefault(k, o), tmp_path, size=30, resize=k)
    assert np.asarray(seen['crop']).mean() > 250 and 60 < np.asarray(seen['stretch']).mean() < 110

def test_a_perfect_colorizer_is_nearly_perfect():
    _,rgb = next(_batches(files, 64, 'crop', 16, {}))
    df = evaluate(SimpleNamespace(predict_ab=lambda L: to_L_ab(rgb)[1]), files, size=64)
    assert (df.psnr == 100).all() and (df.delta_e < 1e-3).all() and np.allclose(df.colorfulness, df.colorfulness_true)

def test_bad_files_are_skipped_and_named(tmp_path):
    bad,gone = tmp_path/'bad.jpg',tmp_path/'gone.jpg'
    bad.write_bytes(files[0].read_bytes()[:500])
    with pytest.warns(UserWarning, match=r'2 of 4 files skipped'): df = evaluate(grey(), [files[0], bad, gone, files[1]], size=64, bs=2)
    assert df.file.tolist() == [str(files[0]), str(files[1])]
    assert set(df.attrs['skipped']) == {str(bad), str(gone)}
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='none could be read'): evaluate(grey(), [bad])
    with pytest.raises(ValueError, match='expected at least one'): evaluate(grey(), [])

def test_refusals():
    nan = SimpleNamespace(predict_ab=lambda L: torch.where(torch.arange(len(L))[:,None,None,None] == 1, torch.nan, torch.zeros(len(L), 2, *L.shape[2:])))
    with pytest.raises(ValueError, match=f'not finite for {files[1]}, expected'): evaluate(nan, files, size=32)
    with pytest.raises(ValueError, match=r"resize='pad', expected one of \['crop', 'stretch'\]"): evaluate(grey(), files, resize='pad')
    with pytest.raises(ValueError, match='resize its answer to its input'): evaluate(lambda im: im.resize((5, 5)), files, size=32)
    with pytest.raises(ValueError, match='returned ndarray'): evaluate(np.asarray, files, size=32)
    with pytest.raises(ValueError, match='expected a callable'): evaluate('net', files, size=32)

# baselines
@pytest.fixture
def two_tone(tmp_path):
    "A folder with one photo: its dark half has one color, its light half another"
    L = torch.full((1, 128, 128), -.4)
    L[:,64:] = .4
    ab = torch.where(L < 0, torch.tensor([.1, -.2])[:,None,None], torch.tensor([-.1, .3])[:,None,None])
    rgb = from_L_ab(L, ab).mul(255).round().byte()
    Image.fromarray(rgb.movedim(0, -1).numpy()).save(tmp_path/'a.png')
    return tmp_path

def test_best_tint_is_the_mean(two_tone):
    base = best_tint(two_tone)
    assert base.ab.tolist() == pytest.approx([0, .05], abs=.01)
    assert torch.equal(base.predict_ab(torch.zeros(2, 1, 4, 5)), base.ab[None,:,None,None].expand(2, 2, 4, 5))

def test_mean_ab_per_L_is_a_lookup(two_tone):
    base = mean_ab_per_L(two_tone)
    L = torch.tensor([-.4, .4, -1, 1, 0])[:,None,None,None]
    want = [.1, -.2],[-.1, .3],[.1, -.2],[-.1, .3],[0, .05] # the ends repeat, between the two it is interpolated
    assert np.allclose(base.predict_ab(L)[...,0,0], want, atol=.02)
    assert base.table.shape == (101, 2) and base.table.abs().max()*AB_SCALE < 60

def test_baselines_skip_bad_files(two_tone):
    (two_tone/'b.png').write_text('not a photo')
    with pytest.warns(UserWarning, match='1 of 2 files skipped'): assert best_tint(two_tone).ab.isfinite().all()

# intervals
def test_bootstrap_of_a_difference_is_the_normal_interval():
    r = np.random.default_rng(1)
    ref = r.normal(20, 5, 400)
    ours = ref + r.normal(1, 2, 400)
    value,lo,hi = bootstrap(ours, ref)
    d = ours - ref
    half = 1.959964*d.std()/len(d)**.5
    assert value == pytest.approx(d.mean())
    assert [lo, hi] == pytest.approx([d.mean() - half, d.mean() + half], abs=.08*half)
    assert half < .5*1.96*np.hypot(ours.std(), ref.std())/len(d)**.5 # unpaired it would be much wider

def test_bootstrap_of_a_ratio_is_the_delta_methods_interval():
    r = np.random.default_rng(2)
    ref = r.gamma(9, 1, 400)
    ours = .8*ref + r.normal(0, .5, 400)
    value,lo,hi = bootstrap(ours, ref, 'ratio')
    half = 1.959964*(ours - value*ref).std()/len(ref)**.5/ref.mean()
    assert value == pytest.approx(ours.mean()/ref.mean())
    assert [lo, hi] == pytest.approx([value - half, value + half], abs=.08*half)
    assert bootstrap(3*ref, ref, 'ratio') == pytest.approx((3, 3, 3))

def test_bootstrap_repeats_itself_and_covers():
    r = np.random.default_rng(3)
    x = r.normal(0, 1, (2, 50))
    assert bootstrap(*x, n=500) == bootstrap(*x, n=500) != bootstrap(*x, n=500, seed=1)
    inside = [lo <= 0 <= hi for _,lo,hi in (bootstrap(*r.normal(0, 1, (2, 60)), n=400) for _ in range(300))]
    assert .90 < np.mean(inside) < .98
    with pytest.raises(ValueError, match='expected one of'): bootstrap(*x, kind='sum')

def test_summarize_pairs_photos():
    df = compare(dict(grey=grey(), tint=best_tint(files)), files, size=64)
    a = summarize(df)
    b = summarize(df.sample(frac=1, random_state=0).sort_values('name', kind='stable')) # the rows' order means nothing
    by = df.set_index('file').groupby('name')
    assert a.index.tolist() == ['grey', 'tint'] and (a.photos == len(files)).all()
    assert a.psnr['tint'] == pytest.approx(by.psnr.mean()['tint'])
    assert a.psnr_gain['tint'] == pytest.approx(a.psnr['tint'] - a.psnr['grey'])
    assert a.delta_e_ratio['tint'] == pytest.approx(a.delta_e['tint']/a.delta_e['grey'])
    assert a.loc['grey', ['psnr_gain', 'psnr_gain_lo', 'psnr_gain_hi']].tolist() == [0, 0, 0]
    assert np.allclose(a.drop(columns='photos').loc[['grey', 'tint']], b.drop(columns='photos').loc[['grey', 'tint']], atol=.3)
    with pytest.raises(ValueError, match=r"got ref='sepia', expected one of \['grey', 'tint'\]"): summarize(df, 'sepia')

def test_share_in_range():
    import pandas as pd
    df = pd.DataFrame([dict(name='x', file=str(i), psnr=20., ssim=.9, delta_e=5., colorfulness=c, colorfulness_true=10.) for i,c in enumerate((2, 7, 14, 30))])
    row = summarize(df, 'x').loc['x']
    assert row.in_range == .5 and row.color_ratio == pytest.approx(53/40)

# in training
def test_train_metrics_in_a_learner(tmp_path):
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.callback.progress import ProgressCallback # adds Learner.no_bar
    from fastai.learner import Learner
    g = torch.Generator().manual_seed(0)
    rgb = torch.rand(5, 3, 16, 16, generator=g)
    items = [to_L_ab(x) for x in rgb]
    net = torch.nn.Conv2d(1, 2, 1)
    dls = DataLoaders(*[DataLoader(items, bs=2) for _ in range(2)]) # a last batch of one
    learn = Learner(dls, net, torch.nn.L1Loss(), metrics=train_metrics(), path=tmp_path)
    with learn.no_bar(): _,*got = learn.validate()
    L = torch.stack([o[0] for o in items])
    with torch.no_grad(): want = scores(from_L_ab(L, net(L)), rgb)
    assert [m.name for m in learn.metrics] == ['psnr', 'ssim', 'delta_e', 'color_ratio']
    assert got == pytest.approx([*(want[k].mean().item() for k in ('psnr', 'ssim', 'delta_e')),
                                 (want['colorfulness'].mean()/want['colorfulness_true'].mean()).item()], rel=1e-3)
    with learn.no_bar(): assert list(learn.validate())[1:] == got # a second run starts anew
    again = pickle.loads(pickle.dumps(learn.metrics)) # as `Learner.export` does
    assert [m.name for m in again] == [m.name for m in learn.metrics] and len({id(m.sums) for m in again}) == 1

def test_judging_does_not_import_the_training_library():
    code = "import sys, colorize_fastai.metrics; print(*{'fastai', 'pandas', 'matplotlib', 'skimage'} & set(sys.modules))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == ''
