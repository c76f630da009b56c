"""The colorizer page in a real browser: `python .ci/browse_colorizer.py SITE` (needs chromium and playwright; exit status 1 if something fails)

SITE is the folder of the built site, or that of the page alone. `--photos FOLDER` compares the photos of a folder with `Colorizer`, too."""
import argparse, functools, json, os, shutil, sys, tempfile, threading, time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
import numpy as np
from PIL import Image

class Handler(SimpleHTTPRequestHandler):
    isolated = True # send the headers that allow threads?
    def end_headers(self):
        if self.isolated:
            self.send_header('Cross-Origin-Opener-Policy', 'same-origin')
            self.send_header('Cross-Origin-Embedder-Policy', 'require-corp')
        super().end_headers()
    def log_message(self, *args): pass
    def copyfile(self, source, out):
        try: super().copyfile(source, out)
        except ConnectionError: pass # the page was closed

def served(folder, isolated=True):
    "(server, address) of a folder"
    handler = type('H', (Handler,), dict(isolated=isolated))
    server = ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f'http://127.0.0.1:{server.server_port}/'

def samples(folder):
    "Photos as PNG files: five sample photos, cut, shrunk, enlarged, grey; long strips; old prints in their frames"
    from colorize_fastai.aged import age_photo
    from colorize_fastai.photo import read_rgb, sample_photos
    ways = dict(cut=lambda o: o.crop((11, 7, o.width - 30, o.height//2 + 61)), small=lambda o: o.resize((97, 131)),
        large=lambda o: o.resize((o.width*2 + 1, o.height*2 - 1), Image.Resampling.BICUBIC), grey=lambda o: o.convert('L').resize((333, 250)))
    for name,file in sample_photos().items():
        for way,f in ways.items(): f(read_rgb(file)).save(folder/f'{name}-{way}.png')
    cat, cup = (read_rgb(sample_photos()[k]) for k in ('chelsea', 'coffee'))
    for name,size in dict(wide=(2000, 150), tall=(131, 1100), seven=(700, 101)).items(): cat.resize(size).save(folder/f'strip-{name}.png')
    for name,im,tone in (('grey', cat, 0), ('sepia', cup, .8), ('large', cat.resize((1600, 1067)), .3)): age_photo(im, tone=tone).save(folder/f'print-{name}.png')
    bars = cup.copy()
    for box in ((0, 0, 600, 50), (0, 350, 600, 400)): bars.paste('black', box)
    bars.save(folder/'bars.png')
    return sorted(folder.glob('*.png'))

def watch(page, address, console=True):
    "Everything that goes wrong on the page, or out of the house"
    wrong = []
    page.on('console', lambda m: console and m.type == 'error' and wrong.append(f'console: {m.text}'))
    page.on('pageerror', lambda e: wrong.append(f'error: {e}'))
    page.on('request', lambda r: r.url.startswith((address, 'blob:', 'data:')) or wrong.append(f'request: {r.url}'))
    return wrong

def choose(page, files, seconds=120):
    "Give the page files and wait until each is in color or has failed; gives the seconds"
    n, start = page.locator('.photo').count() + len(files), time.perf_counter()
    page.set_input_files('#files', [str(f) for f in files])
    done = """n => document.querySelectorAll('.photo.failed, .photo .download:not([hidden])').length >= n
        && /in color|could not/.test(document.getElementById('status').textContent)"""
    while not page.evaluate(done, n): # wait_for_function is stopped by the page's Content Security Policy
        if time.perf_counter() - start > seconds: raise TimeoutError(f'after {seconds} s: {page.locator("main").inner_text()}')
        page.wait_for_timeout(50)
    return time.perf_counter() - start

def download(page, i, folder):
    "The picture that the page makes of its photo number `i`"
    with page.expect_download(timeout=120_000) as d: page.locator('.photo').nth(i).locator('.download').click()
    file = folder/d.value.suggested_filename
    d.value.save_as(file)
    return file

def turn(page, name, value):
    "Set a dial"
    page.eval_on_selector(f'#{name}', f"e => {{ e.value = {value}; e.dispatchEvent(new Event('input', {{bubbles: true}})) }}")

def check_same(page, files, tmp, seconds=300):
    "The downloads beside `Colorizer`: within 1 of 255"
    from colorize_fastai.inference import Colorizer
    c, bad, far, n = Colorizer(device='cpu'), [], [], page.locator('.photo').count()
    choose(page, files, seconds)
    for i,f in enumerate(files):
        v, s = [(.5, 1), (1, 1), (0, 1.5)][i % 3]
        turn(page, 'vividness', v); turn(page, 'saturation', s)
        got, want = np.array(Image.open(download(page, n + i, tmp)).convert('RGB')).astype(int), np.array(c(f, vividness=v, saturation=s)).astype(int)
        if got.shape != want.shape: bad.append(f'{f.name}: {got.shape}, not {want.shape}'); continue
        far.append(np.abs(got - want).max())
        if far[-1] > 1: bad.append(f'{f.name}: off by {far[-1]} of 255 in {(np.abs(got - want) > 1).mean():.2%} of the values')
    print(f'{len(files)} photos beside Colorizer: at most {max(far)} of 255 apart')
    return bad

def hidden_pixels(page):
    "Does the picture after coloring change with the dials?"
    return page.evaluate("() => { const c = document.querySelector('.after'); return [...c.getContext('2d').getImageData(c.width/2, c.height/2, 8, 8).data].join() }")

def check_controls(page, photo, tmp):
    "Slider, dials, keyboard, formats, failures, removal"
    bad = []
    page.reload()
    (tmp/'empty.jpg').write_bytes(b''); (tmp/'text.png').write_text('no photo'); (tmp/'scan.tif').write_bytes(b'II*\0' + bytes(60))
    (tmp/'cut.png').write_bytes(photo.read_bytes()[:500])
    im = Image.open(photo).convert('RGB'); exif = Image.Exif(); exif[274] = 6; exif[306] = '1962:05:04 10:00:00' # orientation, date
    im.save(tmp/'turned.jpg', exif=exif)
    choose(page, [photo, tmp/'empty.jpg', tmp/'text.png', tmp/'scan.tif', tmp/'cut.png', tmp/'turned.jpg'])
    notes = page.locator('.photo .note').all_inner_texts()
    for note,word in zip(notes[1:5], ('empty', 'no photograph', 'TIFF', 'damaged'), strict=True):
        if word not in note: bad.append(f'said {note!r}, expected {word!r}')
    if notes[5] != f'{im.height} × {im.width} pixels': bad.append(f'a turned photo has {notes[5]!r}')
    before = hidden_pixels(page)
    turn(page, 'saturation', 0); page.wait_for_timeout(1500)
    if hidden_pixels(page) == before: bad.append('saturation changes nothing')
    turn(page, 'saturation', 1)
    split = page.locator('.split input').first
    split.focus(); page.keyboard.press('Home')
    if '--at: 0%' not in (page.locator('.stage').first.get_attribute('style') or ''): bad.append('the slider does not move by keyboard')
    page.select_option('#format', 'image/jpeg')
    file = download(page, 0, tmp)
    if Image.open(file).format != 'JPEG' or Image.open(file).size != im.size: bad.append(f'{file.name} is no JPEG of the same size')
    for kind in 'jpeg', 'png':
        page.select_option('#format', f'image/{kind}')
        with Image.open(download(page, 5, tmp)) as out:
            if (got := dict(out.getexif())) != {274: 1, 306: '1962:05:04 10:00:00'}: bad.append(f'a {kind} has the EXIF {got}')
            if out.size != im.size[::-1]: bad.append(f'a turned photo becomes {out.size}')
    n = page.locator('.photo').count()
    page.locator('.photo .remove').first.click()
    if page.locator('.photo').count() != n - 1: bad.append('Remove removes nothing')
    return bad

# The processor, for a moment, passes for a graphics card; what happens to cards is done to it
_card = "Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', {value: false})"
_card_dies = _card + """
    const request = GPUAdapter.prototype.requestDevice, post = self.postMessage; let device
    GPUAdapter.prototype.requestDevice = async function (...o) { return device = await request.apply(this, o) }
    self.postMessage = (m, ...o) => { post.call(self, m, ...o); if (m.computes === 'graphics card') device.destroy() }"""
_gpu = "Object.defineProperty(navigator, 'gpu', {value: {getPreferredCanvasFormat: () => 'rgba8unorm', requestAdapter: async () => %s}})"
_adapter = "({info: {}, limits: {}, features: new Set(), requestDevice: async () => { %s }})"
# Before the worker's first line: (what it does, builds of ONNX Runtime that are loaded)
without_card = {'WebGPU without a graphics card': (_gpu % 'null', ['wasm']),
                'a graphics card that cannot be opened': (_gpu % (_adapter % "throw new Error('no')"), ['wasm']),
                'a graphics card that opens only once': ('let n = 0; ' + _gpu % (_adapter % "if (n++) throw new Error('no'); return {destroy() {}}"), ['jspi', 'wasm'])}
with_card = {'a graphics card': (_card, ['jspi']), 'a graphics card, without JSPI': (_card + '; delete WebAssembly.Suspending', ['webgpu'])}
lost_card = {'a graphics card that breaks down': (_card_dies, ['jspi', 'wasm']), 'a graphics card that computes something else': (_card, ['jspi', 'wasm'])}

def check_card(browser, folder, name, before, builds, files, tmp):
    "What is loaded, what it weighs, what the page says about it, and the colors, where `before` comes first in the worker"
    site = tmp/name.replace(' ', '-')
    shutil.copytree(folder, site)
    (site/'worker.js').write_text(before + '\n' + (site/'worker.js').read_text(encoding='utf-8'), encoding='utf-8')
    facts = json.loads((site/'model.json').read_text())
    if 'something else' in name: (site/'model.json').write_text(json.dumps(facts | dict(probe=[v + .01 for v in facts['probe']])))
    server, address = served(site)
    page = browser.new_page(viewport=dict(width=1200, height=900))
    bad, loaded = watch(page, address, console=False), []
    page.on('request', lambda r: loaded.append(r.url.removeprefix(address)))
    page.goto(address)
    while '(' not in (said := page.inner_text('#weight')): page.wait_for_timeout(50)
    start, mb = time.perf_counter(), (facts['bytes'][builds[0]] + facts['bytes']['model'])/1e6
    if f'({mb:.0f} MB)' not in said: bad.append(f'said {said!r}, not {mb:.0f} MB')
    bad += check_same(page, files, tmp, 900)
    said, who = page.inner_text('#weight'), 'processor' if 'wasm' in builds else 'graphics card'
    if who not in said: bad.append(f'said {said!r}, not {who}')
    if (got := [o[4:-3] for o in loaded if o.endswith('.gz')]) != builds: bad.append(f'loaded {got}, not {builds}')
    if (full := page.evaluate("document.getElementById('progress').value")) != 1: bad.append(f'the bar ends at {full}')
    size = sum((site/o).stat().st_size for o in loaded if (site/o).is_file())/1e6
    if size > 25: bad.append(f'{size:.1f} MB: {loaded}')
    print(f'{name}: {" and ".join(builds)}, {size:.1f} MB in all, {time.perf_counter() - start:.0f} s')
    page.close(); server.shutdown()
    return [f'{name}: {o}' for o in bad]

def check_cards(playwright, chromium, folder, files, tmp):
    "The net by WebGPU, which the processor computes here, slowly"
    browser = playwright.chromium.launch(executable_path=chromium, args=['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'])
    page, bad = browser.new_page(), []
    server, address = served(folder)
    page.goto(address)
    there = page.evaluate("async () => !!await navigator.gpu?.requestAdapter()")
    page.close(); server.shutdown()
    if not there: print('This browser has no WebGPU: graphics cards are left out')
    else:
        for i,(name,how) in enumerate((with_card | lost_card).items()): bad += check_card(browser, folder, name, *how, files[:1 if i else 3], tmp)
    browser.close()
    return bad

def check_narrow(page):
    "Nothing hangs over the edge of a phone"
    page.set_viewport_size(dict(width=390, height=844))
    wide = page.evaluate("document.documentElement.scrollWidth")
    return [f'{wide} pixels wide on a phone of 390'] if wide > 390 else []

def timed(page, tmp):
    "Seconds for photos of 1 and 12 megapixels, after loading"
    from colorize_fastai.photo import read_rgb, sample_photos
    im, res = read_rgb(sample_photos()['coffee']), {}
    for mp,size in ((1, (1200, 833)), (12, (4000, 3000))):
        im.resize(size, Image.Resampling.BICUBIC).save(tmp/f'{mp}mp.jpg', quality=92)
        res[mp] = choose(page, [tmp/f'{mp}mp.jpg'])
        start = time.perf_counter(); download(page, page.locator('.photo').count() - 1, tmp); res[f'{mp}, download'] = time.perf_counter() - start
    return {k: round(v, 2) for k,v in res.items()}

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('site'); ap.add_argument('--photos', help='folder of more photos to compare'); ap.add_argument('--time', action='store_true')
    ap.add_argument('--shots', help='folder for screenshots'); ap.add_argument('--fast', action='store_true', help='three photos only, and without threads')
    args = ap.parse_args()
    chromium = os.environ.get('CHROMIUM') or shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
    try: from playwright.sync_api import sync_playwright
    except ImportError: chromium = None
    if not chromium: sys.exit('This needs chromium (Debian: apt-get install chromium) and pip install playwright')
    site = Path(args.site)
    folder = site if (site/'model.json').exists() else site/'colorizer'
    if not (folder/'model.json').exists(): sys.exit(f'{site} holds no colorizer page: python .ci/colorizer.py {site/"colorizer"}')
    wrong = []
    with tempfile.TemporaryDirectory() as tmp, sync_playwright() as p:
        tmp = Path(tmp); (tmp/'in').mkdir()
        files = samples(tmp/'in')
        if args.fast: files = [o for o in files if o.stem in ('chelsea-small', 'print-grey', 'strip-seven')]
        browser = p.chromium.launch(executable_path=chromium, args=['--no-sandbox'])
        for isolated in (False, True)[:1 if args.fast else 2]:
            server, address = served(folder, isolated)
            page = browser.new_page(viewport=dict(width=1200, height=900))
            seen = watch(page, address)
            page.goto(address)
            print(f'threads {"on" if page.evaluate("crossOriginIsolated") else "off"}: model and first photo in {choose(page, files[:1]):.1f} s')
            if args.time: page.reload(); choose(page, files[1:2]); print('seconds by megapixels:', timed(page, tmp))
            if isolated or args.fast: wrong += check_same(page, files, tmp)
            if isolated:
                if args.photos: wrong += check_same(page, sorted(o for o in Path(args.photos).iterdir() if o.suffix == '.png'), tmp)
            else: wrong += check_controls(page, files[0], tmp) + check_narrow(page)
            wrong += seen
            page.close(); server.shutdown()
        for name,how in list(without_card.items())[-1 if args.fast else 0:]: wrong += check_card(browser, folder, name, *how, files[:1], tmp)
        if not args.fast: wrong += check_cards(p, chromium, folder, [o for o in files if o.stem in ('chelsea-small', 'coffee-cut', 'print-grey')], tmp)
        if args.shots: shots(browser, folder, Path(args.shots), files)
        browser.close()
    for o in wrong: print(o, file=sys.stderr)
    sys.exit(bool(wrong))

def shots(browser, folder, out, files):
    "Screenshots: wide, narrow, light, dark"
    out.mkdir(parents=True, exist_ok=True)
    server, address = served(folder)
    for name,width,scheme in (('wide', 1200, 'light'), ('phone', 390, 'light'), ('dark', 1200, 'dark')):
        page = browser.new_page(viewport=dict(width=width, height=900), color_scheme=scheme)
        page.goto(address); page.screenshot(path=out/f'{name}-empty.png')
        choose(page, files[:2]); page.screenshot(path=out/f'{name}.png', full_page=True)
        page.close()
    server.shutdown()

if __name__ == '__main__': main()
