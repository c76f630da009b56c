"""The renderer of the documentation, on small notebooks, and the README that is made with it."""
import base64, importlib.util, io, json, shutil, sys
from pathlib import Path
import pytest
from PIL import Image

root = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location('cz_docs', root/'.ci'/'docs.py')
docs = importlib.util.module_from_spec(spec); spec.loader.exec_module(docs)
checks, more = sys.modules['docs_checks'], sys.modules['docs_pages']

def test_readme_is_the_home_page():
    assert (root/'README.md').read_text(encoding='utf-8') == docs.readme(root/'nbs'/'index.ipynb'), 'python .ci/docs.py --readme'

def test_quarto_has_the_same_menu():
    assert (root/'nbs'/'sidebar.yml').read_text(encoding='utf-8') == docs.sidebar(root/'nbs'), 'python .ci/docs.py --readme'

def test_readme_links_exist():
    text = (root/'README.md').read_text(encoding='utf-8')
    links = [l for l in docs.re.findall(r'\]\(([^)#\s]+)', text) if not l.startswith('http')]
    assert links and [l for l in links if not (root/l).exists()] == []

# Markdown

@pytest.mark.parametrize('text,want', [
    ('$x_i$', '<math'), ('a $\\lambda = 100$ b', '<math'), ('$$x^2$$', '<div class="math"'), ('$5 or $6', '$5 or $6'), ('`$x$`', '`$x$`'), ('```\n$x$\n```', '```\n$x$\n```')])
def test_math(text, want):
    got = docs.outside_code(docs.math, text)
    assert want in got and ('<math' in got) == (want[0] == '<') | ('lambda' in text)

def test_math_without_tex():
    got = docs.math(r'$G^* = \arg\min_G \max_D x$')
    assert '\\' not in got and '<mo>arg</mo>' in got

def test_code_is_left_alone():
    f = lambda t: t.upper()
    assert docs.outside_code(f, 'a `b` c ``d`e`` f\n```\ng\n```\nh') == 'A `b` C ``d`e`` F\n```\ng\n```\nH'

def test_blocks():
    assert docs.blocks('text:\n- a\n  - b\n- c') == 'text:\n\n- a\n    - b\n- c'
    assert docs.blocks('text\n|a|\n|-|\n|1|') == 'text\n\n|a|\n|-|\n|1|'

def test_links():
    pages, anchors = {'00_color.ipynb': 'color.md', 'tutorials/01_a.ipynb': 'tutorials/a.md'}, {'color.md': {'f'}}
    f = lambda t, here='.': docs.links(t, Path(here), pages, 'https://x.io/p', anchors)
    assert f('[c](00_color.ipynb#lab)') == '[c](color.md#lab)' and f('[c](99_no.ipynb)') == '[c](99_no.ipynb)'
    assert f('[c](../00_color.ipynb)', 'tutorials') == '[c](../color.md)'
    assert f('[`f`](https://x.io/p/color.html#f)', 'tutorials') == '[`f`](../color.md#f)' and f('[`_g`](https://x.io/p/color.html#_g)') == '`_g`'

def test_links_to_hosted_pages_and_to_files():
    pages = {'index.ipynb': 'index.md', '00_color.ipynb': 'color.md'}
    f = lambda t, here='.': docs.links(t, Path(here), pages, 'https://x.io/p', {}, docs.source_of(root, 'https://r.org/p'))
    assert f('[c](https://x.io/p/color.html) [h](https://x.io/p/) [o](https://x.io/q/)', 'tutorials') == '[c](../color.md) [h](../index.md) [o](https://x.io/q/)'
    assert f('[l](../LICENSE)') == '[l](https://r.org/p/blob/main/LICENSE)' and f('[g](../gone)') == '[g](../gone)' and f('[t](colorizer/)') == '[t](colorizer/index.html)'
    assert f('a [![Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/x) b') == 'a  b'

def test_underscores_in_a_card():
    text = 'x\n\n### Net.__call__\n\n```python\nf(a_b)\n```\n\n*See [`a_b`](https://x.io/p_q/a.html#a_b), a_b*'
    got = docs.card(text)
    assert '<h3 id="net.__call__" markdown="span">Net.\\_\\_call\\_\\_</h3>' in got and '(https://x.io/p_q/a.html#a_b)' in got and ', a\\_b' in got

@pytest.mark.parametrize('text,want', [
    ('## A *batch*\nText.\n\nAs the `net` sees [it](a.md): more. And more.', ('A batch', 'As the net sees it')), ('Only text', (None, 'Only text')), ('# Head', ('Head', None)),
    ('## H\nSaid.\n\n```\ncode\n```', ('H', 'Said'))])
def test_what_text_says_of_a_figure(text, want): assert docs.says(text) == want

# The menu

@pytest.mark.parametrize('path,want', [
    ('00_color', 'The book'), ('19_last', 'The book'), ('20_files', 'The machinery'), ('29_bench', 'The machinery'), ('experiments/01_a', 'Experiments'),
    ('tutorials/30_a', 'Tutorials'), ('index', None), ('scaling', 'Guides'), ('gallery', 'Guides')])
def test_section(path, want): assert docs.section(Path(f'nbs/{path}.ipynb'), Path('nbs')) == want

def test_notebooks_in_order(tmp_path):
    names = ['index', 'tutorials/01_a', 'gallery', 'faq', 'scaling', 'another', '00_color', '10_evaluate', '20_files', 'experiments/01_a']
    for n in reversed(names): (tmp_path/n).parent.mkdir(exist_ok=True); (tmp_path/f'{n}.ipynb').touch()
    assert [p.relative_to(tmp_path).as_posix() for p in docs.notebooks(tmp_path)] == [f'{n}.ipynb' for n in names]

# A site

def picture():
    f = io.BytesIO(); Image.new('RGB', (4, 4), 'red').save(f, 'png')
    return base64.b64encode(f.getvalue()).decode()

def project(d, **cells):
    "A project with a home page, a room of the book and one of the machinery; `cells`: more of the book"
    for f in ('pyproject.toml', 'settings.ini', 'CITATION.cff'): shutil.copy(root/f, d/f)
    (d/'CHANGELOG.md').write_text('# Changelog\n\n- [The room](nbs/00_room.ipynb) is new.\n')
    (d/'nbs').mkdir(); shutil.copy(root/'nbs'/'styles.css', d/'nbs'/'styles.css'); shutil.copy(root/'nbs'/'favicon.svg', d/'nbs'/'favicon.svg')
    def write(name, cs):
        cs = [dict(cell_type='markdown', id=f'{i}', metadata={}, source=c) if isinstance(c, str) else
              dict(cell_type='code', id=f'{i}', metadata={}, execution_count=None, source=c[0], outputs=c[1]) for i,c in enumerate(cs)]
        nb = dict(cells=cs, metadata=dict(kernelspec=dict(name='python3', display_name='python3', language='python')), nbformat=4, nbformat_minor=5)
        (d/'nbs'/f'{name}.ipynb').write_text(json.dumps(nb))
    write('index', ['# Home\n> The way in\n\nTo the [room](00_room.ipynb).'])
    write('00_room', ['# A room\n> Where things are\n\nFirst words.', ('#| default_exp room', []), ('#| export\nimport math', []), ('#| export\nDEPTH = 7', []),
        ('#| export\ndef twice(\n    x:int, # a number\n)->int: # its double\n    "Double *x*"\n    return 2*x # here\ndef thrice(x): return 3*x', []),
        ('#| hide\nsecret = 1', []), ('twice(3)', [dict(output_type='execute_result', execution_count=None, metadata={}, data={'text/plain': ['six<7>']})]),
        '## The picture\nA red square. It is small.', ('twice(4)', [dict(output_type='display_data', metadata={}, data={'image/png': picture(), 'text/plain': ['<Figure>']})]), *cells.get('more', [])])
    write('20_engine', ['# An engine\n> What drives it'])
    return d

def test_site(tmp_path):
    site = tmp_path/'site'
    assert docs.build(project(tmp_path), site) == 8 # three notebooks, an overview of each part, names, changes, how to cite
    html = (site/'room.html').read_text(encoding='utf-8')
    text = docs.re.sub(r'<[^>]+>', '', html)
    for want in ('First words.', 'Where things are', 'DEPTH = 7', 'x:int, # a number', 'Source of twice, thrice', 'return 2*x', 'six&lt;7&gt;'): assert want in text, want
    for no in ('secret', 'import math', '#|', 'AUTOGENERATED', '>source<'): assert no not in text, no
    assert 'alt="The picture: A red square"' in html and 'width="4"' in html and 'blob/main/nbs/00_room.ipynb"' in html and 'colab.research.google.com/github/' in html
    assert '<meta property="og:description" content="Where things are">' in html and '<meta name="description" content="Where things are">' in html
    index = (site/'api.html').read_text(encoding='utf-8')
    assert 'href="room.html#twice"' in index and 'Double *x*' in docs.re.sub(r'<[^>]+>', '', index) and 'href="room.html"><code>DEPTH</code>' in index and 'secret' not in index
    assert 'href="room.html">The room' in (site/'changelog.html').read_text(encoding='utf-8')
    assert 'Where things are' in (site/'book'/'index.html').read_text(encoding='utf-8')
    assert 'id="twice"' in html and 'Double *x*' in text and docs.re.search(r'<img[^>]+src="figures/room_1.png"', html) and (site/'figures'/'room_1.png').exists()
    assert html.index('id="twice"') < html.index('id="thrice"') < html.index('Source of twice')
    assert 'href="room.html"' in (site/'index.html').read_text(encoding='utf-8') and (site/'search'/'search_index.json').exists()
    assert docs.re.search(r'The book.*A room.*The machinery.*An engine', text, docs.re.S)
    assert checks.problems(site) == []
    assert f'colorize_fastai {docs.settings(root)["version"]}' in ' '.join(text.split())

def test_dead_link_stops_the_build(tmp_path):
    with pytest.raises(ValueError, match='99_gone'): docs.build(project(tmp_path, more=['[gone](99_gone.ipynb)']), tmp_path/'site')

def test_faults_stop_the_build(tmp_path):
    faults = {'<img src="favicon.svg">': 'without alt', '![](styles.css)': 'without alt', r'$\nosuchsign x$': 'did not become a formula', '# a { #b ]': 'markup in a heading',
              '<a href="https://colorize-fastai.github.io/colorize_fastai/color.html">c</a>': 'hosted copy', '<a href="gone.html">g</a>': 'leads nowhere: gone.html',
              '<a href="#gone">g</a>': 'no such place in the page: #gone', '<img alt="a" src="https://example.org/a.png">': 'another host'}
    with pytest.raises(ValueError) as e: docs.build(project(tmp_path, more=list(faults)), tmp_path/'site')
    found = str(e.value).splitlines()[1:]
    assert len(found) == len(faults) and all(l.startswith('room.html: ') for l in found) and [w for w in faults.values() if w not in str(e.value)] == []

@pytest.mark.parametrize('html,n', [
    ('<script src="https://a.org/x.js"></script>', 1), ('<script src=//a.org/x.js>', 1), ('<link rel="stylesheet" href="https://a.org/x.css">', 1), ('<link href="https://a.org/x" rel=preconnect>', 1),
    ('<style>@import "https://a.org/x.css"; p {background: url(https://a.org/x.png)}</style>', 2), ('<a href="https://a.org">a</a>', 0), ('<link rel="canonical" href="https://a.org/">', 0),
    ('<script src="x.js"></script><img src="data:image/png;base64,AA">', 0)])
def test_remote_assets(tmp_path, html, n):
    (tmp_path/'a.html').write_text(html)
    assert len(checks.remote_assets(tmp_path)) == n

def test_changelog_and_cite():
    text = more.changelog('# Changelog\n\n- [a](nbs/00_color.ipynb) [l](LICENSE) [w](https://w.org)', '1.2')
    assert '[a](00_color.ipynb) [l](../LICENSE) [w](https://w.org)' in text and 'version 1.2' in text
    text = more.cite((root/'CITATION.cff').read_text(encoding='utf-8'))
    assert '@software{colorize_fastai,' in text and f'version = {{{docs.settings(root)["version"]}}}' in text and 'Phillip Isola' in text
