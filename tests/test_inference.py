"Colorizer: lightness kept, full size, little memory, and everything given back as found"
import subprocess, sys, threading
from types import SimpleNamespace
import numpy as np, pytest, torch, torch.nn.functional as F
from PIL import Image
from skimage.color import rgb2lab
from torch import nn
from colorize_fastai.color import from_L_ab, to_L_ab
from colorize_fastai.generator import pix2pix_generator, unet_generator
from colorize_fastai.album import colorize_files, plan_files
from colorize_fastai import inference
from colorize_fastai.inference import Colorizer, add_color, seen_L, seen_size
from colorize_fastai.photo import PhotoError, read_rgb, sample_photos
from colorize_fastai.weights import load_generator, save_weights

class Net(nn.Module):
    "Small, unlike on every pixel, and with layers that tell training from evaluation"
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(1, 8, 5, padding=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(.5), nn.Conv2d(8, 2, 3, padding=1), nn.Tanh())
    def forward(self, L): return self.body(L)

@pytest.fixture
def colorizer(): return Colorizer.from_net(Net(), size=64)
@pytest.fixture(scope='module')
def photo(): return read_rgb(sample_photos()['chelsea'])
def tensor(im): return torch.from_numpy(np.array(im)).permute(2,0,1)[None]/255

@pytest.mark.parametrize('saturation', [0., 1., 3.])
@pytest.mark.parametrize('name', ['astronaut', 'coffee', 'rocket'])
def test_lightness_is_kept(colorizer, name, saturation):
    "L*, by scikit-image, before and after: what 8 bits round it by"
    before = read_rgb(sample_photos()[name]); after = colorizer(before, saturation=saturation)
    assert after.size == before.size and after.mode == 'RGB'
    d = np.abs(rgb2lab(np.asarray(after))[...,0] - rgb2lab(np.asarray(before))[...,0])
    assert d.max() < .5 and d.mean() < .12
    chroma = np.hypot(*np.moveaxis(rgb2lab(np.asarray(after))[...,1:], -1, 0)).mean()
    assert chroma < .6 if saturation == 0 else chroma > 3

def test_in_one_piece(colorizer, photo):
    "Strips against the straightforward way: enlarge everything, join everything"
    ab = colorizer.predict_ab(seen_L(photo, 64)[None])
    L, _ = to_L_ab(tensor(photo))
    want = from_L_ab(L, F.interpolate(ab, size=L.shape[2:], mode='bilinear'))[0].mul(255).round().byte().permute(1,2,0)
    for strip in (1, 1000, 10**9):
        d = np.abs(np.asarray(add_color(photo, ab[0], strip)).astype(int) - want.numpy()); assert d.max() <= 1 and (d > 0).mean() < .01
    assert np.array_equal(np.asarray(colorizer(photo)), np.asarray(add_color(photo, ab[0])))

@pytest.mark.parametrize('ab', [torch.zeros(2,1,1), torch.randn(2,9,9, generator=torch.Generator().manual_seed(0)), torch.tensor([[[3., -3.]], [[-3., 3.]]])])
@pytest.mark.parametrize('name', ['astronaut', 'rocket', 'coins'])
def test_joined_as_in_the_color_room(name, ab):
    "Colors of all strengths, many far outside sRGB, against `from_L_ab`: seldom a step, hardly ever up to three where they were made paler"
    rgb = read_rgb((sample_photos() | sample_photos(grey=True))[name])
    L, _ = to_L_ab(tensor(rgb))
    want = from_L_ab(L, F.interpolate(ab[None], size=L.shape[2:], mode='bilinear'))[0].mul(255).round().permute(1,2,0).numpy()
    d = np.abs(np.asarray(add_color(rgb, ab.clone().requires_grad_())) - want)
    assert d.max() <= 3 and (d > 1).mean() < 2e-5 and (d > 0).mean() < .01

def test_large_photos(colorizer, photo, monkeypatch):
    "Their colors are looked up: nearly the same, in grey and in color, whatever the strips; without color grey to the bit"
    ab = colorizer.predict_ab(seen_L(photo, 64)[None])[0]
    photos = photo, photo.convert('L')
    want = [np.asarray(add_color(o, ab)).astype(int) for o in photos]
    monkeypatch.setattr(inference, 'MANY', 1)
    inference._one_table.cache_clear() # other tests may have filled it
    table = inference._one_table()
    n = table.n
    for o,w in zip(photos, want, strict=True):
        got = [np.asarray(add_color(o, ab, strip)) for strip in (1000, 10**9)]
        assert table.n > n and np.array_equal(*got)
        d = np.abs(got[0] - w)
        assert 0 < d.max() <= 3 and (d > 1).mean() < .01
        assert np.abs(rgb2lab(got[0])[...,0] - rgb2lab(np.asarray(o.convert('RGB')))[...,0]).max() < .5
        grey = np.asarray(add_color(o, ab*0))
        assert (grey == grey[...,:1]).all()
    assert np.array_equal(np.asarray(add_color(photos[1], ab*0))[...,0], np.asarray(photos[1]))
    far = ab*200 # beyond the table
    n = table.n
    assert np.abs(rgb2lab(np.asarray(add_color(photo, far)))[...,0] - rgb2lab(np.asarray(photo))[...,0]).max() < .5 and table.n == n

def test_its_colors_are_ignored(colorizer, photo):
    "A photo and its grey version, at the same L*, become nearly the same: they differ by rounding"
    grey = add_color(photo, torch.zeros(2,1,1))
    d = np.abs(np.asarray(colorizer(photo)).astype(int) - np.asarray(colorizer(grey)))
    assert d.mean() < 1.5, d.mean()

def test_given_back_as_found(photo):
    net = Net(); net.train(); net.body[1].eval()  # a frozen BatchNorm inside a net in training
    modes, state = [m.training for m in net.modules()], {k: v.clone() for k,v in net.state_dict().items()}
    a = Colorizer.from_net(net, 64)(photo)
    assert [m.training for m in net.modules()] == modes
    assert all(torch.equal(v, state[k]) for k,v in net.state_dict().items())
    assert np.array_equal(np.asarray(a), np.asarray(Colorizer.from_net(net.eval(), 64)(photo)))
    assert all(p.grad is None and p.requires_grad for p in net.parameters())

def test_given_back_after_an_error():
    class Broken(Net):
        def forward(self, L): raise RuntimeError('broken')
    net = Broken()
    with pytest.raises(RuntimeError): Colorizer.from_net(net)(np.zeros((4,4)))
    assert net.training

def test_no_randomness_used(colorizer, photo):
    state = torch.get_rng_state()
    assert np.array_equal(np.asarray(colorizer(photo)), np.asarray(colorizer(photo)))
    assert torch.equal(torch.get_rng_state(), state)

def test_learner(photo):
    class Learner: model = Net()
    c = Colorizer.from_learner(Learner(), 32)
    assert c.net is Learner.model and c(photo).size == photo.size
    Learner.dls = SimpleNamespace(train=SimpleNamespace(load_size=40))
    assert Colorizer.from_learner(Learner()).size == 40

def test_weights_say_how_large_the_net_wants_photos(tmp_path, photo):
    net = pix2pix_generator(n_features=4, levels=3)
    for size, meta in ((48, dict(load_size=48)), (256, {})):
        c = Colorizer(save_weights(net, tmp_path/f'{size}.safetensors', **meta), 'cpu')
        assert c.size == size and np.array_equal(np.asarray(c(photo)), np.asarray(Colorizer(tmp_path/f'{size}.safetensors', 'cpu', size)(photo)))
        assert Colorizer(tmp_path/f'{size}.safetensors', 'cpu', 32).size == 32

@pytest.mark.parametrize('n', [1, 3])
@pytest.mark.parametrize('channels', [1, 3])
def test_batch_is_its_photos(colorizer, n, channels):
    x = torch.rand(n, channels, 33, 47)
    many = colorizer(x); assert isinstance(many, list) and len(many) == n
    for a,b in zip(many, x, strict=True):
        one = colorizer(b); assert one.size == a.size == (47,33)
        assert np.abs(np.asarray(a).astype(int) - np.asarray(one)).max() <= 1

def test_all_kinds_are_one(colorizer, tmp_path):
    a = np.asarray(read_rgb(sample_photos(grey=True)['coins']))[...,0]
    Image.fromarray(a).save(tmp_path/'a.png')
    want = np.asarray(colorizer(tmp_path/'a.png'))
    kinds = [str(tmp_path/'a.png'), (tmp_path/'a.png').read_bytes(), Image.fromarray(a), a, a[...,None], np.dstack([a]*3), a/255, (a/255).astype(np.float32),
             a.astype(np.uint16)*257, torch.from_numpy(a.copy())[None], torch.from_numpy(np.stack([a]*3)), torch.from_numpy(a/255)[None], (torch.from_numpy(a.copy())[None]/255).requires_grad_()]
    for k in kinds: assert np.array_equal(np.asarray(colorizer(k)), want), type(k)

def test_predict_ab(colorizer):
    L = torch.rand(2,1,20,30)*2 - 1
    ab = colorizer.predict_ab(L)
    assert ab.shape == (2,2,20,30) and ab.dtype == torch.float32 and not ab.requires_grad
    ref = Net().eval()
    with torch.no_grad(): torch.testing.assert_close(ab, ref(L))
    half = Colorizer.from_net(Net().double()); assert half.predict_ab(L).dtype == torch.float32

@pytest.mark.parametrize('w,h,size,want', [(256,256,256,(256,256)), (6000,4000,256,(384,256)), (100,50,256,(512,256)), (20_000,10,256,(16_384,8)), (10,20_000,256,(8,16_384)), (20_000,300,160,(10_240,154)), (1,1,8,(8,8)), (401,100,50,(200,50))])
def test_seen_size(w, h, size, want): assert seen_size(w, h, size) == want

@pytest.mark.parametrize('w,h', [(1,1), (1,9), (9,1), (3000,2), (2,3000)])
def test_odd_sizes(colorizer, w, h): assert colorizer(Image.new('L', (w,h), 120)).size == (w,h)

def test_size_argument(colorizer):
    seen = []
    colorizer.net.register_forward_pre_hook(lambda m, x: seen.append(tuple(x[0].shape)))
    x = np.zeros((50,100), np.uint8)
    colorizer(x); colorizer(x, size=32); colorizer(x)
    assert seen == [(1,1,64,128), (1,1,32,64), (1,1,64,128)]

def test_saturation_multiplies(photo):
    class Pale(nn.Module):
        def forward(self, L): return torch.full((len(L), 2, *L.shape[2:]), .05)
    c = Colorizer.from_net(Pale()); grey = np.full((8,8), 128, np.uint8)
    ab = [rgb2lab(np.asarray(c(grey, saturation=s)))[0,0,1:] for s in (0, 1, 2)]
    np.testing.assert_allclose(ab, np.outer([0, 5.5, 11], [1, 1]), atol=.6)

def test_vividness_comes_from_the_weights(tmp_path, photo):
    "The dial's temperature and spread are those in its header, its place too; an argument goes before"
    torch.manual_seed(0)
    net = unet_generator('resnet18', pretrained=False, channels=(8,8,8,8), head='palette')
    torch.nn.init.normal_(net.head.weight, std=30)
    f = save_weights(net, tmp_path/'p.safetensors', vividness=.5, vivid=dict(temperature=.25, spread=20))
    L = torch.rand(1, 1, 32, 32)*2 - 1
    with torch.no_grad(): own = net.eval()(L, temperature=.5)
    mean = own.mean((2, 3), keepdim=True)
    s = 110*(own - mean).norm(dim=1).square().mean().sqrt()
    assert 20/3 < s < 20
    want = mean + (own - mean)*(20/s)**.5
    torch.testing.assert_close(Colorizer(f, 'cpu').predict_ab(L), want)
    plain = Colorizer(f, 'cpu', vividness=0)
    torch.testing.assert_close(plain.predict_ab(L, vividness=.5), want)
    with torch.no_grad(): torch.testing.assert_close(plain.predict_ab(L), net(L))
    strength = [np.ptp(np.asarray(plain(photo, vividness=v)).astype(int), axis=2).mean() for v in (0, .5, 1)]
    assert strength == sorted(strength) and strength[0] < strength[2]

# What is refused

nan = float('nan')
@pytest.mark.parametrize('x,match', [
    (np.zeros((4,4,5), np.uint8), r'shape \(4, 4, 5\)'), (np.zeros((4,4,0)), r'shape \(4, 4, 0\)'), (np.zeros((3,8,8)), r'shape \(3, 8, 8\)'), (np.zeros(4), r'shape \(4,\)'),
    (np.zeros((0,4)), r'shape \(0, 4\), which is empty'), (np.zeros((4,0,3), np.uint8), 'empty'), (np.full((4,4), nan), 'NaN'), (np.full((4,4), np.inf), 'NaN or infinite'),
    (np.full((4,4), 255.), r'floats in \[255, 255\]'), (np.full((4,4), -.1), r'divide 8-bit'), (np.zeros((4,4), np.int32), r'int32 of shape \(4, 4\)'), (np.zeros((4,4), complex), 'complex128'),
    (torch.zeros(4,4), r'shape \(4, 4\)'), (torch.zeros(7,4,4), r'shape \(7, 4, 4\).*\[C,H,W\]'), (torch.zeros(5,6,4,4), r'expected .*\[B,C,H,W\]'), (torch.zeros(0,1,4,4), 'empty batch'),
    (torch.full((1,4,4), nan), 'NaN'), (torch.full((1,1,4,4), -1.), 'predict_ab'), (torch.zeros(1,1,0,4), 'empty'), ('nowhere.png', 'no such file')])
def test_bad_input(colorizer, x, match):
    with pytest.raises(ValueError, match=match) as e: colorizer(x)
    assert '\n' not in str(e.value)

@pytest.mark.parametrize('x', [None, 3, [1, 2]])
def test_bad_type(colorizer, x):
    with pytest.raises(TypeError, match='expected a path'): colorizer(x)

@pytest.mark.parametrize('kw', [dict(size=0), dict(size=-3), dict(size=1.5), dict(size='256'), dict(size=True), dict(size=10**6), dict(saturation=-1), dict(saturation=nan), dict(saturation='2'), dict(vividness=-.1), dict(vividness=1.5), dict(vividness=nan), dict(vividness='1')])
def test_bad_arguments(colorizer, kw):
    with pytest.raises(ValueError, match='got '): colorizer(np.zeros((4,4)), **kw)

@pytest.mark.parametrize('L', [torch.zeros(1,4,4), torch.zeros(1,2,4,4), torch.zeros(1,1,4,4, dtype=torch.uint8), torch.full((1,1,4,4), nan), torch.zeros(0,1,4,4), np.zeros((1,1,4,4))])
def test_bad_L(colorizer, L):
    with pytest.raises(ValueError, match='expected'): colorizer.predict_ab(L)

def test_bad_nets():
    with pytest.raises(ValueError, match='the net answered'): Colorizer.from_net(nn.Conv2d(1, 3, 1))(np.zeros((4,4)))
    net = nn.Conv2d(1, 2, 1); nn.init.constant_(net.bias, nan)
    with pytest.raises(ValueError, match='weights are broken'): Colorizer.from_net(net)(np.zeros((4,4)))

@pytest.mark.parametrize('device', ['gpu', 'cuda:99', 'banana', ''])
def test_bad_device(device, tiny_weights):
    with pytest.raises(ValueError, match='cannot be used here') as e: Colorizer(tiny_weights, device=device)
    assert '\n' not in str(e.value)

def test_from_weights(tiny_weights, photo):
    c = Colorizer(tiny_weights, device='cpu', size=64)
    assert not c.net.training and c(photo).size == photo.size
    with pytest.raises(ValueError, match='No weights at'): Colorizer('no_such_weights')

def test_layout_changes_no_color(tiny_weights):
    L = torch.rand(2, 1, 64, 96)*2 - 1
    with torch.no_grad(): want = load_generator(tiny_weights)(L)
    got = Colorizer(tiny_weights, 'cpu').predict_ab(L)
    assert got.abs().max() > .01 and (got - want).abs().max() < 1e-5

# Files

@pytest.fixture
def album(tmp_path):
    for n in ('a.png', 'A.gif', 'a.gif', 'sub/b.jpg', 'sub/c.TIF'):
        f = tmp_path/'album'/n; f.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (6,4), len(n)).save(f)
    return tmp_path/'album'

def test_plan_keeps_the_tree_and_loses_nothing(album):
    out = album.parent/'out'; plan = plan_files(album, out)
    assert len({str(j.dst).lower() for j in plan}) == len(plan) == 5
    assert {j.dst.relative_to(out).as_posix() for j in plan} >= {'sub/b.jpg', 'sub/c.TIF'} and not any(j.status for j in plan)
    assert [j.dst for j in plan_files(album, out)] == [j.dst for j in plan]
    both = plan_files([album, album/'sub', album/'a.png'], out); assert [j.src for j in both] == [j.src for j in plan]  # each photo once

def test_same_names_from_two_folders(album, tmp_path):
    (tmp_path/'other').mkdir(); Image.new('L', (6,4)).save(tmp_path/'other/a.png')
    plan = plan_files([album/'a.png', tmp_path/'other', tmp_path/'nowhere', tmp_path], tmp_path/'out')
    assert [j.dst and j.dst.name for j in plan[:3]] == ['a.png', 'a-2.png', None] and plan[2].status == 'failed' and 'nowhere' in plan[2].note

def test_originals_are_safe(album, colorizer):
    before = {p: p.read_bytes() for p in album.rglob('*') if p.is_file()}
    (album/'link.png').symlink_to(album/'a.png')
    for out in (album, album/'sub'/'..'):
        jobs = list(colorize_files(colorizer, plan_files([album/'a.png', album/'sub/b.jpg'], out, overwrite=True)))
        assert jobs[0].status == 'failed' and 'overwrite an original' in jobs[0].note
    assert all(j.status == 'failed' for j in plan_files(album, album) if j.dst.suffix != '.png' or j.dst.name == 'a.png')
    assert all(p.read_bytes() == b for p,b in before.items())

def test_out_inside_the_folder(album, colorizer):
    colorizer.weights = 'w' # as if they had come from a file
    run = lambda: [j.status for j in colorize_files(colorizer, plan_files(album, album/'colorized', made_with=colorizer.made_with()))]
    assert run() == ['written']*5 and run() == ['kept']*5
    with pytest.raises(PhotoError, match='expected a folder'): plan_files(album, album/'a.png')

def test_bad_file_stops_nothing(album, colorizer):
    (album/'0.png').write_text('<html>'); (album/'sub/0.jpg').write_bytes(b'')
    done = {j.src.name: j for j in colorize_files(colorizer, plan_files(album, album.parent/'out'))}
    assert sorted(n for n,j in done.items() if j.status == 'failed') == ['0.jpg', '0.png']
    assert all('\n' not in j.note and j.src.name in j.note for j in done.values() if j.note)
    assert sum(j.dst.is_file() for j in done.values()) == 5
    with pytest.raises(ValueError, match='saturation'): list(colorize_files(colorizer, [], saturation=-1))
    with pytest.raises(ValueError, match='num_workers=0'): list(colorize_files(colorizer, [], num_workers=0))

@pytest.fixture
def many(tmp_path):
    "Nine photos, one of them broken"
    (tmp_path/'many').mkdir()
    for i,f in enumerate([*sample_photos().values()]*2):
        if i < 9: read_rgb(f).resize((120 + i, 90)).convert('L').save(tmp_path/'many'/f'{i}.png')
    (tmp_path/'many'/'4.png').write_text('no photo')
    return tmp_path/'many'

def test_workers_change_nothing(many, colorizer, monkeypatch):
    "One at a time or several: the same jobs in the same order, the same pictures, and torch's threads as they were"
    monkeypatch.setattr('colorize_fastai.album.LARGE', 11_000) # some are large
    colorizer.net.eval()
    threads, jobs = torch.get_num_threads(), {}
    for n in (1, 3): jobs[n] = list(colorize_files(colorizer, plan_files(many, many.parent/f'out{n}'), num_workers=n))
    assert [(j.src, j.status) for j in jobs[1]] == [(j.src, j.status) for j in jobs[3]]
    assert [j.status for j in jobs[3]] == ['written']*4 + ['failed'] + ['written']*4
    for a, b in zip(jobs[1], jobs[3]):
        if a.status == 'written': assert np.abs(np.asarray(Image.open(a.dst)).astype(int) - np.asarray(Image.open(b.dst))).max() <= 1
    new = []
    threading.Thread(target=lambda: new.append(torch.get_num_threads())).start()
    assert torch.get_num_threads() == threads == new[0]

def test_several_are_in_work_at_a_time(many, colorizer, monkeypatch):
    colorizer.net.eval()
    seen, real = [], type(colorizer).__call__
    def call(self, *args, **kw):
        seen.append((threading.get_ident(), torch.get_num_threads()))
        return real(self, *args, **kw)
    monkeypatch.setattr(type(colorizer), '__call__', call)
    list(colorize_files(colorizer, plan_files(many, many.parent/'out'), num_workers=3))
    assert len(seen) == 8 and threading.get_ident() not in {t for t,_ in seen} and {n for _,n in seen} == {1}
    colorizer.net.train() # its modes are switched around each prediction: one at a time, here
    seen.clear()
    list(colorize_files(colorizer, plan_files(many, many.parent/'more'), num_workers=3))
    assert {t for t,_ in seen} == {threading.get_ident()} and colorizer.net.training

def test_stopped_in_the_middle(many, colorizer):
    "What was begun is finished, nothing else is begun, and no file is half there"
    colorizer.net.eval()
    jobs = colorize_files(colorizer, plan_files(many, many.parent/'out'), num_workers=2)
    assert next(jobs).status == 'written'
    jobs.close()
    made = sorted((many.parent/'out').iterdir())
    assert 1 <= len(made) <= 5
    for p in made: Image.open(p).load()

# Start and memory

def test_big_photos_take_little_memory(tmp_path):
    "24 megapixels: what is needed above the start stays under two float copies of the photo, read and write included"
    code = '''
import resource, sys, torch
from colorize_fastai.album import *
from colorize_fastai.inference import Colorizer
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
c, start = Colorizer.from_net(torch.nn.Conv2d(1, 2, 3, padding=1)), peak()
job, = colorize_files(c, plan_files(sys.argv[1], sys.argv[2]))
print(job.status, peak() - start, start)'''
    Image.new('L', (6000,4000), 99).save(tmp_path/'big.jpg')
    r = subprocess.run([sys.executable, '-c', code, tmp_path/'big.jpg', tmp_path/'out'], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    status, grown, start = r.stdout.split()
    assert status == 'written' and float(grown) < 2*24e6*3*4/2**20, r.stdout
