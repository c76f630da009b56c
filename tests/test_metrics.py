"""Scores against scikit-image, scipy and the papers' own figures."""
import importlib.util, math, pickle, subprocess, sys
import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision
from PIL import Image
from skimage.color import deltaE_ciede2000
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from colorize_fastai import metrics
from colorize_fastai.color import from_L_ab, rgb2lab, to_L_ab
from colorize_fastai.color import colorfulness
from colorize_fastai.metrics import ab_histogram, ab_intersections, ciede2000, delta_e, frechet, histogram_intersection, inception_features, kid, lpips, missing_weights, psnr, region_scores, scores, ssim, train_metrics
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
    def m3(im, f): # written from section 6 of Hasler and Süsstrunk, in numpy
        R,G,B = (im[...,i]*255. for i in range(3))
        rg,yb = f(R - G),f(.5*(R + G) - B)
        return np.hypot(np.std(rg), np.std(yb)) + .3*np.hypot(np.mean(rg), np.mean(yb))
    signed,absolute = ([m3(hwc(t), f) for t in pair[1]] for f in (np.asarray, np.abs))
    assert colorfulness(pair[1]).tolist() == pytest.approx(signed, rel=1e-5)
    assert colorfulness(pair[1], signed=False).tolist() == pytest.approx(absolute, rel=1e-5)
    assert np.abs(np.subtract(signed, absolute)).max() > 1
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

# many pictures
def test_ab_histogram_is_numpys(pair):
    lab = [rgb2lab(x.double()) for x in pair]
    edges = np.arange(-128.5, 128)
    for x in lab:
        a,b = x.movedim(1, 0)[1:].flatten(1).numpy()
        assert np.array_equal(ab_histogram(x).numpy(), np.histogram2d(a, b, bins=[edges, edges])[0])
    p,q = map(ab_histogram, lab)
    assert torch.equal(ab_histogram(lab[0][:1]) + ab_histogram(lab[0][1:]), p) and p.sum() == lab[0][:,0].numel()
    got = ab_intersections(p, q)
    def share(p, q): return np.minimum(p/p.sum(), q/q.sum()).sum()
    a,b = ([np.histogram(x[:,i].numpy(), edges)[0] for x in lab] for i in (1, 2))
    assert got == pytest.approx(dict(hist_ab=share(p.numpy(), q.numpy()), hist_a=share(*a), hist_b=share(*b)))
    assert got['hist_ab'] < min(got['hist_a'], got['hist_b']) < 1

def test_histogram_intersection_known():
    def of(a, b): return ab_histogram(torch.tensor([50., a, b])[:,None,None].expand(3, 2, 2))
    red,green,shifted = of(60, 0),of(-60, 0),of(60.4, -.4) # the last within the bin
    assert ab_intersections(red, 3*shifted) == pytest.approx(dict(hist_ab=1, hist_a=1, hist_b=1))
    assert ab_intersections(red, green) == pytest.approx(dict(hist_ab=0, hist_a=0, hist_b=1))
    assert histogram_intersection(red, red + green) == .5
    assert ab_histogram(torch.zeros(3, 1, 1))[128,128] == 1 and ab_histogram(torch.tensor([0., 500, -500])[:,None,None])[255,0] == 1
    with pytest.raises(ValueError, match='at least one count'): histogram_intersection(red, red*0)

def features(n, d, seed, scale=1., shift=0.):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)@torch.randn(d, d, generator=g, dtype=torch.float64)*scale/d**.5 + shift

def test_frechet_of_known_gaussians():
    x = features(400, 6, 0)
    mean,cov = x.mean(0),torch.cov(x.T)
    white = (x - mean)@torch.linalg.inv(torch.linalg.cholesky(cov)).T # exactly mean 0 and covariance 1
    assert frechet(white, 2*white + torch.tensor([3., 4, 0, 0, 0, 0])) == pytest.approx(25 + 6*(2 - 1)**2, abs=1e-6)
    assert frechet(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet(x, x + 2) == pytest.approx(6*4) and frechet(x, x + 2) == pytest.approx(frechet(x + 2, x))

@pytest.mark.parametrize('n,d', [(200, 12), (40, 30), (8, 60)]) # the last is written in a smaller basis
def test_frechet_is_scipys(n, d):
    x,y = features(n, d, 1),features(n, d, 2, 1.5, .3)
    S,T = (np.cov(o.numpy(), rowvar=False) for o in (x, y))
    want = ((x.mean(0) - y.mean(0))**2).sum().item() + np.trace(S + T - 2*scipy.linalg.sqrtm(S@T).real)
    nuclear = scipy.linalg.svdvals(((x - x.mean(0))@(y - y.mean(0)).T).numpy()).sum()/(n - 1) # tr √(ST) once more, another way
    assert frechet(x, y) == pytest.approx(((x.mean(0) - y.mean(0))**2).sum().item() + np.trace(S + T) - 2*nuclear, rel=1e-5)
    assert frechet(x.float(), y.float()) == pytest.approx(want, rel=1e-4)

def test_kid_is_the_unbiased_mmd():
    x,y = features(30, 5, 3),features(30, 5, 4, 1., .7)
    def k(a, b): return (a.numpy()@b.numpy().T/5 + 1)**3
    off = ~np.eye(30, dtype=bool)
    want = k(x, x)[off].mean() + k(y, y)[off].mean() - 2*k(x, y).mean()
    mean,std = kid(x, y, subset_size=30, subsets=3)
    assert mean == pytest.approx(want) and std == pytest.approx(0, abs=1e-9)

def test_kid_subsets_are_seeded_and_torchs_numbers_go_on():
    x,y = features(60, 5, 5),features(60, 5, 6, 1., 1.)
    torch.manual_seed(7)
    want = torch.rand(3)
    torch.manual_seed(7)
    a = kid(x, y)
    assert torch.equal(torch.rand(3), want)
    assert a == kid(x, y) == kid(x, y, subset_size=30) != kid(x, y, seed=1) and a[0] > 3*a[1]/10 > 0
    many = features(2000, 5, 8)
    mean,std = kid(many[:1000], many[1000:])
    assert abs(mean) < std # two halves of one kind
    for size in 1,61:
        with pytest.raises(ValueError, match='expected 2 to 60'): kid(x, y, size)
    with pytest.raises(ValueError, match='n at least 4: give more pictures'): kid(x[:3], y)
    with pytest.raises(ValueError, match='one d'): frechet(x, y[:,:4])

@pytest.fixture
def torch_home(tmp_path, monkeypatch):
    "An empty cache of torch's; nets loaded from it are forgotten"
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    metrics._paper_net.cache_clear()
    (tmp_path/'hub'/'checkpoints').mkdir(parents=True)
    yield tmp_path/'hub'/'checkpoints'
    metrics._paper_net.cache_clear()

def test_lpips_and_fid_are_absent_in_words(pair, torch_home):
    missing = missing_weights()
    assert 'alexnet-owt-7be5be79.pth' in missing['lpips'] and str(torch_home) in missing['lpips']
    assert 'weights-inception-2015-12-05-6726825d.pth' in missing['fid'] and str(torch_home) in missing['fid']
    with pytest.raises(FileNotFoundError, match='no LPIPS: put https'): lpips(*pair)
    with pytest.raises(FileNotFoundError, match='no FID: put https'): inception_features(pair[0])
    (torch_home/'alexnet-owt-7be5be79.pth').write_bytes(b'half a download')
    with pytest.raises(ValueError, match='alexnet.*remove it and fetch it again'): lpips(*pair)

def test_fid_names_the_package(torch_home, monkeypatch):
    (torch_home/'weights-inception-2015-12-05-6726825d.pth').touch()
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name, *a: None if name == 'torch_fidelity' else there(name, *a))
    assert missing_weights()['fid'] == 'no FID: pip install torch-fidelity'

def test_lpips_with_weights_under_the_true_name(pair, torch_home):
    "Random weights: the same pictures are 0 apart, noisier ones further; against the definition, written out"
    torch.manual_seed(0)
    with torch.device('meta'): shapes = {k: v.shape for k,v in torchvision.models.alexnet().state_dict().items()}
    sd = {k: torch.randn(s)*.05 if k.startswith('features') else torch.zeros(()).expand(s) for k,s in shapes.items()}
    torch.save(sd, torch_home/'alexnet-owt-7be5be79.pth') # the classifier, which LPIPS leaves out, takes no room
    assert 'lpips' not in missing_weights()
    got = lpips(*pair)
    assert lpips(pair[1], pair[1]).tolist() == [0, 0, 0] and got.shape == (3,) and (got > 0).all() and got[0] < got[1] < got[2]
    net,x = torchvision.models.alexnet().features,[(2*o - 1 - torch.tensor([-.030, -.088, -.188])[:,None,None])/torch.tensor([.458, .448, .450])[:,None,None] for o in pair]
    net.load_state_dict({k.removeprefix('features.'): v for k,v in sd.items() if k.startswith('features')})
    heads,want = iter(v for k,v in metrics._net('lpips', pair[0]).state_dict().items() if k.startswith('lin') and not k.startswith('lins')),0
    for layer in net.eval():
        x = [layer(o) for o in x]
        if isinstance(layer, torch.nn.ReLU): want = want + ((torch.nn.functional.normalize(x[0]) - torch.nn.functional.normalize(x[1]))**2*next(heads)[0]).sum(1).mean((1, 2))
    assert torch.allclose(got, want, rtol=1e-3)

def test_fid_with_weights_under_the_true_name(pair, torch_home):
    "Random weights: the features are those that torchmetrics' own FID adds up"
    inception = pytest.importorskip('torch_fidelity.feature_extractor_inceptionv3')
    from torchmetrics.image.fid import FrechetInceptionDistance
    class Blank(inception.FeatureExtractorInceptionV3):
        def load_state_dict(self, *args, **kwargs): pass
    path = torch_home/'weights-inception-2015-12-05-6726825d.pth'
    torch.save({}, path)
    torch.manual_seed(0)
    torch.save(Blank('inception-v3-compat', ['2048'], path).state_dict(), path)
    assert 'fid' not in missing_weights()
    x = torch.cat(pair)[1:5]
    got,fid = inception_features(x),FrechetInceptionDistance(2048)
    fid.update(x.mul(255).round().byte(), real=True)
    assert got.shape == (4, 2048) and torch.allclose(got.double().sum(0), fid.real_features_sum, rtol=1e-4)
    assert frechet(got, got) == pytest.approx(0, abs=1e-6) and frechet(got[:2], got[2:]) > 0

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
    code = "import sys, colorize_fastai.evaluate; print(*{'fastai', 'pandas', 'matplotlib', 'skimage', 'timm', 'torchmetrics'} & set(sys.modules))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True).stdout.strip() == ''

def test_region_scores_by_hand():
    "Against a plain loop over pixels"
    torch.manual_seed(0)
    true = torch.cat([torch.rand(2, 1, 9, 7)*100, torch.randn(2, 2, 9, 7)*25], 1).double()
    pred = torch.cat([true[:,:1], torch.randn(2, 2, 9, 7).double()*10], 1)
    got = region_scores(pred, true)
    for i,(p,t) in enumerate(zip(pred.numpy(), true.numpy())):
        vivid = [(y, x) for y in range(9) for x in range(7) if np.hypot(*t[1:,y,x]) >= 25]
        for name,o in dict(vivid_chroma=p, vivid_chroma_true=t).items(): assert got[name][i].item() == pytest.approx(sum(np.hypot(*o[1:,y,x]) for y,x in vivid)/63)
        inner = [(y, x) for y in range(1, 8) for x in range(1, 6)]
        def slope(o, y, x): return np.sqrt(((o[:,y,x+1] - o[:,y,x-1])**2 + (o[:,y+1,x] - o[:,y-1,x])**2).sum())
        edges = [at for at in inner if slope(t[:1], *at) >= 15]
        assert 0 < len(edges) < len(inner)
        for name,o in dict(edge_share=p, edge_share_true=t).items():
            assert got[name][i].item() == pytest.approx(sum(slope(o[1:], *at) for at in edges)/sum(slope(o[1:], *at) for at in inner))

def test_grey_is_dull_and_has_no_edges():
    true = torch.cat([torch.rand(1, 1, 9, 9)*100, torch.randn(1, 2, 9, 9)*40], 1)
    got = region_scores(torch.cat([true[:,:1], 0*true[:,1:]], 1), true)
    assert got['vivid_chroma'] == 0 and got['edge_share'] == 0 and got['vivid_chroma_true'] > 25

def test_no_ratio_to_grey_photos():
    "Beside photos without color, anything would be a hundred thousand times as colorful"
    from types import SimpleNamespace
    ratio = train_metrics()[-1]
    ratio.reset()
    L = torch.rand(2, 1, 16, 16)*2 - 1
    ratio.accumulate(SimpleNamespace(iter=0, xb=(L,), pred=torch.randn(2, 2, 16, 16)*.1, yb=(torch.zeros(2, 2, 16, 16),)))
    assert np.isnan(ratio.value)
