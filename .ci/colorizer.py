"""The colorizer in the browser as a folder that any web server can host: `python .ci/colorizer.py OUT` (needs npm and the extra `onnx`)"""
import argparse, gzip, hashlib, json, re, shutil, subprocess, sys, tarfile, tempfile
from importlib.util import find_spec
from pathlib import Path
import numpy as np

root = Path(__file__).resolve().parent.parent
ort = 'onnxruntime-web@1.30.0'
ort_sha512 = 'ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61'
# Its builds, of which a visitor loads one: for the processor, with SIMD, and with threads where the page may use them; and for graphics cards,
# a small one for browsers whose WebAssembly can wait for JavaScript (JSPI), and a larger one for the others
builds = dict(wasm='ort-wasm-simd-threaded', jspi='ort-wasm-simd-threaded.jspi', webgpu='ort-wasm-simd-threaded.asyncify')

left_out = """<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<title>Colorize photographs</title><h1>Colorize photographs</h1>
<p>This copy of the site was built without the colorizer. <a href="../index.html">Home</a></p></html>
"""

def missing():
    "What the page cannot be made without and is not installed here; empty: nothing"
    return ', '.join([*(['npm (Debian: apt-get install npm)'] if not shutil.which('npm') else []),
                      *([f"{o} (pip install 'colorize_fastai[onnx]')" for o in ('onnx', 'onnxruntime') if not find_spec(o)])])

def vendor(out):
    "ONNX Runtime from npm into the folder `out`, its WebAssembly packed by gzip: the page unpacks it"
    with tempfile.TemporaryDirectory() as tmp:
        r = subprocess.run([shutil.which('npm'), 'pack', ort, '--silent', '--pack-destination', tmp], capture_output=True, text=True)
        packs = list(Path(tmp).glob('*.tgz'))
        if r.returncode or len(packs) != 1: raise OSError(f'npm could not fetch {ort}: {r.stderr.strip()[-300:]}')
        if (got := hashlib.sha512(packs[0].read_bytes()).hexdigest()) != ort_sha512: raise ValueError(f'{ort} is not the known one: SHA-512 {got}')
        out.mkdir(parents=True)
        with tarfile.open(packs[0]) as t:
            for kind,wasm in builds.items():
                js = t.extractfile(f'package/dist/ort.{kind}.bundle.min.mjs').read().decode()
                (out/f'{kind}.mjs').write_text(js.split('//# sourceMappingURL')[0], encoding='utf-8')
                (out/f'{kind}.gz').write_bytes(gzip.compress(t.extractfile(f'package/dist/{wasm}.wasm').read(), 9, mtime=0))

def probe(model, vividness):
    "Some of what the net says to the `pattern` of arithmetic.js: a graphics card that says something else is not used"
    import onnxruntime
    i = np.arange(1024)
    L = (i*i % 97/48.5 - 1).astype(np.float32).reshape(1, 1, 32, 32)
    ab, = onnxruntime.InferenceSession(model, providers=['CPUExecutionProvider']).run(['net_ab'], dict(L=L, vividness=np.array(vividness, np.float32)))
    return [round(float(o), 5) for o in ab.flat[::64]]

def make(out, weights=None, alone=False):
    "Write the page, ONNX Runtime and the model into the folder `out`, in place of what is there; `alone`: without a way back to the site"
    from colorize_fastai.export import to_onnx
    import onnx
    out = Path(out)
    with tempfile.TemporaryDirectory() as tmp:
        new = Path(tmp)/'colorizer'
        shutil.copytree(root/'nbs'/'colorizer', new, ignore=shutil.ignore_patterns('*.md'))
        if alone:
            page = (new/'index.html').read_text(encoding='utf-8')
            (new/'index.html').write_text(re.sub(r' *<p class="up">.*\n', '', page), encoding='utf-8')
        vendor(new/'ort')
        model = to_onnx(weights, new/'colorizer.onnx')
        facts = {o.key: o.value for o in onnx.load(model).metadata_props}
        numbers = {k: float(facts[k]) for k in ('vividness', 'spread_at_1', 'most_spread', 'temperature_at_1', 'answers')}
        size = {k: (new/'ort'/f'{k}.gz').stat().st_size for k in builds} | dict(model=model.stat().st_size)
        facts = {k: facts[k] for k in ('name', 'sha256')} | dict(size=int(facts['size']), **numbers, bytes=size, runtime=ort)
        facts['probe'] = probe(model, numbers['vividness'])
        (new/'model.json').write_text(json.dumps(facts) + '\n', encoding='utf-8')
        if out.exists(): shutil.rmtree(out)
        shutil.copytree(new, out)
    return out

def into(site):
    "The page as the folder `colorizer` of `site`; where something is missing, a message, and a page that says so"
    out = Path(site)/'colorizer'
    if not (lacks := missing()): return make(out)
    print(f'The colorizer page is left out, since these are not installed: {lacks}', file=sys.stderr)
    out.mkdir(parents=True, exist_ok=True)
    (out/'index.html').write_text(left_out, encoding='utf-8')

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('out', help='folder to write; what is there is replaced')
    ap.add_argument('--weights', help='other weights than the packaged ones: a file, a run directory or a name')
    args = ap.parse_args()
    if lacks := missing(): sys.exit(f'Not installed: {lacks}')
    out = make(args.out, args.weights, alone=True)
    print(f'{sum(f.stat().st_size for f in out.rglob("*") if f.is_file())/1e6:.1f} MB in {out}; look at it with: python -m http.server -d {out}')

if __name__ == '__main__': main()
