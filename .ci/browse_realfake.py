"""The test that asks people, in a real browser: python .ci/browse_realfake.py [TESTS]. One trial at its true speed, keys, pause, reload, the file of answers;
then TESTS tests (100) by simulated people whom a colorizer fools at a known rate, through the very page, with a clock that does not wait."""
import json, os, sys, tempfile, time
from pathlib import Path
import numpy as np
from PIL import Image
from playwright.sync_api import sync_playwright
from colorize_fastai.photo import sample_photos
from colorize_fastai.realfake import realfake, realfake_report

RATES, PEOPLE, PHOTOS = dict(ours=.3, other=.15), 8, 20
TESTS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
LEAST = .93 if TESTS >= 100 else .85 # few tests may miss by chance

def made(out, seconds=1., practice=2, photos=PHOTOS + 3):
    "A test of small squares cut from the packaged photos"
    src = [Image.open(p).convert('RGB') for p in sample_photos().values()]
    rng, files = np.random.default_rng(0), []
    (d := out/'photos').mkdir(parents=True)
    for i in range(photos):
        im = src[i % len(src)]
        x, y = (int(rng.integers(0, n - 64)) for n in im.size)
        im.crop((x, y, x + 64, y + 64)).save(f := d/f'{i:02}.png'); files.append(f)
    tint = lambda color: lambda im: Image.blend(im, Image.new('RGB', im.size, color), .2)
    return realfake(dict(ours=tint('red'), other=tint('blue')), files, out/'test', size=64, seconds=seconds, practice=practice, check_every=10**6)

def by_hand(page, url):
    "One person at true speed: practice with an answer, a pause, a reload, the file"
    page.goto(url)
    page.fill('#who', 'ann, "the first"'); page.click('#start')
    for i in range(3):
        page.wait_for_selector('#pair:not(.hidden)'); page.wait_for_selector('#pair.hidden', state='attached')
        page.wait_for_selector('#answers button:not([disabled])')
        page.keyboard.press('ArrowLeft')
        if i < 2: page.wait_for_function("/Right|No:/.test(document.getElementById('said').textContent)")
    page.keyboard.press('p'); page.wait_for_selector('#answers button:not([disabled])')
    page.click('[data-side=right]'); page.wait_for_function("document.getElementById('said').textContent.startsWith('Paused')")
    page.reload(); page.click('#again')
    page.wait_for_selector('#pair:not(.hidden)')
    rows = page.evaluate('state.answers')
    assert [r[3] for r in rows] == ['practice', 'practice', 'main', 'main'] and [r[7] for r in rows] == ['left']*3 + ['right'], rows
    shown = [r[9] for r in rows]
    assert all(980 <= o <= 1150 for o in shown), f'pairs were shown for {shown} ms, expected 1000'
    assert all(r[8] == (r[6] != r[7]) for r in rows), rows
    return shown

fast = """window.setTimeout = ((real) => (f, ms) => real(f, 0))(window.setTimeout); window.requestAnimationFrame = f => window.setTimeout(f, 0)"""
person = """async ([name, odds]) => {
  $('who').value = name; $('start').onclick()
  while ($('end').hidden) {
    if (!reply) { await new Promise(done => setTimeout(done)); continue }
    const t = state.trials[state.answers.length], fooled = random() < odds[t.photo][t.colorizer], right = t.side
    reply(fooled ? (right === 'left' ? 'right' : 'left') : right)
    await null
  }
  $('end').hidden = true
  return csv()
}"""

def simulated(page, url, folder, seed):
    "The answers of `PEOPLE`: some are sharper than others, and so are some photos easier; over all, `RATES` hold"
    rng, photos = np.random.default_rng(seed), json.loads((Path(url[7:]).parent/'test.js').read_text(encoding='utf-8')[len('const TEST = '):])
    easy = {p['photo']: rng.uniform(-.08, .08) for p in photos['photos'] + photos['practice'] + photos['checks']}
    folder.mkdir()
    for i in range(PEOPLE):
        sharp = rng.uniform(-.06, .06)
        odds = {p: {k: r + sharp + e for k,r in RATES.items()} for p,e in easy.items()}
        (folder/f'{i}.csv').write_text(page.evaluate(person, [f'p{i}', odds]), encoding='utf-8')
    return realfake_report(folder)

def main():
    bad = []
    with tempfile.TemporaryDirectory() as d, sync_playwright() as p:
        d, browser = Path(d), p.chromium.launch(executable_path=os.environ.get('CHROMIUM', '/usr/bin/chromium'), args=['--no-sandbox'])
        page = browser.new_page()
        page.on('pageerror', lambda e: bad.append(str(e))); page.on('console', lambda m: m.type == 'error' and bad.append(m.text))
        page.on('request', lambda r: r.url.startswith(('file:', 'data:', 'blob:')) or bad.append(f'asked for {r.url}'))
        print('realfake: pairs were shown for', by_hand(page, made(d/'slow').as_uri()), 'ms')
        page = browser.new_page(); page.on('pageerror', lambda e: bad.append(str(e)))
        url = made(d/'fast').as_uri()
        page.add_init_script(fast); page.goto(url)
        inside, told, t = {k: 0 for k in RATES}, 0, time.time()
        for s in range(TESTS):
            rep = simulated(page, url, d/f'answers{s}', s)
            for k,r in RATES.items(): inside[k] += int(rep['shares'].low[k] <= r <= rep['shares'].high[k])
            told += rep['differences'].reading.iloc[0] == 'ours fools people more often than other'
        print(f'realfake: {TESTS} tests of {PEOPLE} people in {time.time() - t:.0f} s: the true rate is inside of', inside, f'intervals; the difference is shown in {told}')
        browser.close()
    bad += [f'{k}: the true rate is inside of {n} of {TESTS} intervals, expected {LEAST:.0%} or more' for k,n in inside.items() if n < LEAST*TESTS]
    for o in bad: print('realfake:', o, file=sys.stderr)
    sys.exit(bool(bad))

if __name__ == '__main__': main()
