"""The built documentation in a real browser: does each page load, is it complete, can everybody use it? Called by `.ci/browse`; status 1 if not."""
import argparse, asyncio, io, os, sys, time
from collections import defaultdict
from functools import partial
from html import escape
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit
from PIL import Image
from playwright.async_api import TimeoutError, async_playwright
sys.path.insert(0, str(Path(__file__).resolve().parent))
from docs_checks import problems

searches = {'AdversarialTrainer': ['adversarial.html'], 'train on my own photos': ['tutorials/train_stage_1.html', 'data.html']} # the first page that the site has
pages_at_once = 2
# some of each kind, for --fast: home, a tutorial, pages of the book and of the machinery, an experiment, guides, and what no notebook holds
some = '''index.html gallery.html tutorials/color_your_photos.html color.html files.html experiments/recipe.html model_card.html
    api.html changelog.html book/index.html colorizer/index.html'''.split()

class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

def serve(site):
    "The site at an address of this machine"
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(site)))
    Thread(target=server.serve_forever, daemon=True).start()
    return f'http://127.0.0.1:{server.server_port}/'

def listen(page, name, url, found):
    "Errors of the console, requests that fail, and requests to any other host go to `found`"
    page.on('console', lambda m: m.type == 'error' and found['errors'].append((name, m.text)))
    page.on('pageerror', lambda e: found['errors'].append((name, str(e))))
    page.on('response', lambda r: r.status >= 400 and found['errors'].append((name, f'{r.status} {r.url}')))
    page.on('request', lambda r: r.url.startswith(('data:', 'blob:', url)) or found['requests'].append((name, r.url)))

_pictures = """async () => {
    const all = [...document.images]; all.forEach(i => i.loading = 'eager');
    const settled = i => Promise.race([i.decode().catch(() => 0), new Promise(f => setTimeout(f, 5000))]);
    await Promise.all(all.map(settled));
    return all.filter(i => !i.naturalWidth).map(i => i.src.slice(0, 80)); }"""
_clipped = """() => {
    const w = document.documentElement.clientWidth, out = [];
    if (document.documentElement.scrollWidth > w) out.push(`the page is ${document.documentElement.scrollWidth} px wide`);
    const scrolls = e => { for (; e && e !== document.body; e = e.parentElement) if (/auto|scroll/.test(getComputedStyle(e).overflowX)) return true; return false; };
    for (const e of document.querySelectorAll('main article *')) {
        const b = e.getBoundingClientRect();
        if (b.width && (e.textContent.trim() || e.matches('img, svg, input, video, canvas')) && b.right > w + 1 && !scrolls(e)) out.push(`${e.tagName.toLowerCase()}.${e.className} ends at ${Math.round(b.right)} px: ${(e.textContent || '').slice(0, 50)}`);
    }
    return out.slice(0, 3); }"""
_known_code = """seen => {
    seen = new Set(seen); const more = [];
    for (const block of document.querySelectorAll('.highlight')) { // code whose colors were looked at on an earlier page, or above
        const kinds = [...block.querySelectorAll('span[class]')].map(e => e.className + (block.matches('.output') ? ' output' : ''));
        const fresh = kinds.filter(k => !seen.has(k)).concat(block.querySelector('code').scrollWidth > block.clientWidth ? ['wide'] : []);
        if (!fresh.length && kinds.length) block.remove();
        fresh.forEach(k => { if (k != 'wide') { seen.add(k); more.push(k); } });
    }
    return more; }"""
_axe = """async rules => {
    const how = {resultTypes: ['violations'], elementRef: false, ...(rules ? {runOnly: rules} : {})};
    return (await axe.run(document, how)).violations.map(v =>
        [v.id, v.nodes.length, v.nodes[0].target.join(' '), (v.nodes[0].any[0] || v.nodes[0].all[0] || v.nodes[0].none[0] || {message: v.help}).message]); }"""
_dark = """() => document.body.hasAttribute('data-md-color-scheme') && document.body.setAttribute('data-md-color-scheme', 'slate')"""
by_color = ['color-contrast', 'link-in-text-block', 'scrollable-region-focusable'] # the rules that a change from light and wide to dark and narrow can break
phone, desktop = dict(width=390, height=844), dict(width=1280, height=800)

_copied = """() => [...document.querySelectorAll('.highlight code')].filter(c => !c.closest('details:not([open])') &&
    c.innerText.trimEnd().replace(/\\n+/g, '\\n') !== c.textContent.trimEnd().replace(/\\n+/g, '\\n')).map(c => c.textContent.slice(0, 60))"""

async def look(browser, name, url, axe, seen, found, sliders=None):
    "One page: at 390 px, at 1280 px in light, at 390 px in dark; `sliders`: so many of them at most"
    context = await browser.new_context(viewport=phone, color_scheme='light', has_touch=True, bypass_csp=True) # axe comes from outside of the page
    page = await context.new_page()
    listen(page, name, url, found)
    await page.goto(url + name, wait_until='load')
    found['pictures'] += [(name, p) for p in await page.evaluate(_pictures)]
    found['clipped'] += [(name, c) for c in await page.evaluate(_clipped)]
    await page.set_viewport_size(desktop)
    found['copied'] += [(name, c) for c in await page.evaluate(_copied)]
    for i in range(await page.locator('.before-after input[type=range]').count())[:sliders]:
        if err := await slide(page, i): found['sliders'].append((name, err))
        found['n_sliders'].append(name)
    seen.update(await page.evaluate(_known_code, list(seen)))
    await page.add_script_tag(path=axe)
    async def accessible(kind, rules=None):
        found[kind] += [(name, f'{rule}: {n} times, {what} ({where})') for rule, n, where, what in await page.evaluate(_axe, rules)]
    await accessible('light')
    await page.add_style_tag(content='* { transition: none !important }') # else axe sees colors on their way
    await page.emulate_media(color_scheme='dark')
    await page.evaluate(_dark)
    await page.set_viewport_size(phone)
    await accessible('dark', by_color)
    await context.close()

async def slide(page, i, frame=None):
    "Move the slider by key, by mouse and by touch, in the page or in a frame of it; says what is wrong"
    s = (frame or page).locator('.before-after input[type=range]').nth(i)
    await s.scroll_into_view_if_needed()
    cut = lambda: s.evaluate('e => [+e.value, getComputedStyle(e.parentNode.querySelectorAll("img")[1]).clipPath]')
    await s.focus(); await page.keyboard.press('End')
    at_end = await cut()
    box = await s.bounding_box()
    x, y = box['x'] + box['width']/4, box['y'] + box['height']/2
    await page.mouse.move(x + 20, y); await page.mouse.down(); await page.mouse.move(x, y, steps=3); await page.mouse.up()
    at_quarter = await cut()
    await page.touchscreen.tap(box['x'] + .75*box['width'], y)
    at_three = await cut()
    if not await s.evaluate('e => e.labels.length || e.getAttribute("aria-label")'): return f'slider {i+1} has no label'
    if at_end[0] != 100 or abs(at_quarter[0] - 25) > 3 or abs(at_three[0] - 75) > 3:
        return f'slider {i+1}: {at_end[0]} after End, {at_quarter[0]} after a drag to 25, {at_three[0]} after a touch at 75'
    if at_end[1] == at_quarter[1]: return f'slider {i+1} moves, its picture does not'

async def in_a_notebook(browser, name, found):
    "`before_after` by itself in a frame that is closed off, as notebooks show what a cell puts out: no style, script or file of these pages"
    from colorize_fastai.inference import before_after
    html = before_after(Image.new('RGB', (300, 200), '#808080'), Image.new('RGB', (300, 200), '#008080'), 300, name).data
    page = await browser.new_page(viewport=desktop, has_touch=True)
    page.on('console', lambda m: m.type == 'error' and found['errors'].append((name, m.text)))
    await page.set_content(f'<iframe sandbox="allow-scripts" width="400" height="300" srcdoc="{escape(html)}"></iframe>', wait_until='load')
    if err := await slide(page, 0, page.frames[1]): found['sliders'].append((name, err))
    box = await page.frames[1].locator('.before-after').bounding_box()
    shot = Image.open(io.BytesIO(await page.screenshot(clip=box))).convert('RGB') # the cut is at 75%
    got = [shot.getpixel((round(x*shot.width), shot.height//4)) for x in (.1, .7, .8, .95)]
    if any(abs(p[0] - w) > 9 for p,w in zip(got, (128, 128, 0, 0), strict=True)): found['sliders'].append((name, f'at 75% it shows {got}'))
    found['n_sliders'].append(name)
    await page.close()

async def search(browser, words, url, wanted, found):
    "The first page that the site's own search finds"
    page = await browser.new_page()
    await page.goto(url + 'index.html', wait_until='load')
    await page.locator('input[name=query]').fill(words)
    first = page.locator('.md-search-result__item a').first
    try: await first.wait_for(state='attached', timeout=20000)
    except TimeoutError: got = 'nothing'
    else: got = urlsplit(await first.get_attribute('href')).path.lstrip('/')
    if got != wanted: found['search'].append((words, f'finds {got} first, not {wanted}'))
    await page.close()

async def browse(site, axe, fast=False):
    "Everything, or what `some` names; gives what was found, by kind"
    url, found = serve(site), defaultdict(list)
    names = sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html') if p.name != '404.html')
    wanted = {w: next((p for p in ps if p in names), ps[-1]) for w,ps in searches.items()}
    if fast: found['errors'] += [(n, 'there is no such page any more') for n in some if n not in names]; names = [n for n in some if n in names]
    gate = asyncio.Semaphore(pages_at_once)
    async def gated(f, *args):
        async with gate:
            try: await f(*args)
            except Exception as e: found['errors'].append((args[1], f'{type(e).__name__}: {e}'))
    async with async_playwright() as p:
        browser = await p.chromium.launch(executable_path=os.environ.get('CHROMIUM') or '/usr/bin/chromium', args=['--no-sandbox'])
        try:
            jobs = [gated(search, browser, w, url, p, found) for w,p in wanted.items()]
            seen = set()
            jobs += [gated(in_a_notebook, browser, 'before_after in a notebook', found), *(gated(look, browser, n, url, axe, seen, found, 1 if fast else None) for n in names)]
            await asyncio.gather(*jobs)
        finally: await browser.close()
    found['links'] = problems(site)
    return names, found

def main():
    ap = argparse.ArgumentParser(description=__doc__)
    ap.add_argument('site', type=Path, help='the built site')
    ap.add_argument('--axe', required=True, help='axe.min.js of axe-core')
    ap.add_argument('--fast', action='store_true', help=f'look at {len(some)} pages only')
    args = ap.parse_args()
    start = time.time()
    names, found = asyncio.run(browse(args.site.resolve(), args.axe, args.fast))
    n_sliders = len(found.pop('n_sliders', []))
    checks = {'errors': 'pages load without an error', 'requests': 'requests to no other host', 'links': 'every link, anchor and picture leads somewhere',
              'pictures': 'every picture is shown', 'copied': 'code is copied line by line (but for the number of empty ones)', 'search': f'the search finds the right page first ({", ".join(searches)})',
              'sliders': f'{n_sliders} sliders move, by key, mouse and touch', 'clipped': 'nothing is cut off at 390 px',
              'light': 'accessible (axe-core), light', 'dark': 'accessible (axe-core), dark'}
    for k, what in checks.items():
        print(f'{"no " if found[k] else "yes"} {what}' + (f': {len(found[k])} faults' if found[k] else ''))
        for page, fault in found[k]: print(f'      {page}: {fault}')
    print(f'{len(names)} pages, {time.time() - start:.0f} s')
    sys.exit(any(found[k] for k in checks))

if __name__ == '__main__': main()
