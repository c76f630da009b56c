"""Pages of the documentation that no notebook holds: an overview of each part of the menu, the index of names, changes, how to cite."""
import ast, os, re
from pathlib import Path
import yaml
from fastcore.nbio import read_nb

intro = dict(
    Tutorials='Start here. Each is a notebook that runs from top to bottom, here or in Colab.',
    Guides='Answers to one question each.',
    Book='How colorizing a photograph works, in the order in which it is read. Each chapter is a notebook that explains, shows and tests one module.',
    Machinery='What makes training fast, safe and usable. Read a chapter when you need it; each is the notebook of one module.',
    Experiments='What was tried and measured: the question, the command, the result.')

def overview(part, entries):
    "The page that opens a part of the menu: what is in it, one line for each page; `entries`: (title, subtitle, address)"
    here = Path(folder(part))
    lines = [f'- [{title}]({os.path.relpath(to, here)}){f"<br>{sub}" if sub else ""}' for title, sub, to in entries]
    return '\n'.join([f'# {part}', '', intro.get(part.split()[-1].capitalize(), ''), '', '<div class="overview" markdown="1">', '', *lines, '', '</div>', ''])

def folder(part): return part.split()[-1].lower() # The book -> book

# The index of names

def public_names(nb):
    "(name, first line of its docstring) of all that the exported cells of a notebook define, without private names"
    out = []
    for c in nb.cells:
        if c.cell_type != 'code' or not {'export', 'exports'} & c.directives.keys(): continue
        for s in ast.parse(re.sub(r'^\s*[%!].*$', '', c.source, flags=re.M)).body:
            if isinstance(s, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)): out.append((_patched(s) + s.name, (ast.get_docstring(s) or '').split('\n')[0]))
            elif isinstance(s, (ast.Assign, ast.AnnAssign)):
                for t in s.targets if isinstance(s, ast.Assign) else [s.target]:
                    out += [(n.id, '') for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    return [(n, d) for n,d in dict(reversed(out)).items() if not any(p.startswith('_') and not p.endswith('__') for p in n.split('.'))][::-1]

def _patched(f):
    "fastcore's @patch puts a function into the class of its first argument"
    if not any('patch' in ast.unparse(d) for d in f.decorator_list) or not f.args.args or not f.args.args[0].annotation: return ''
    return ast.unparse(f.args.args[0].annotation) + '.'

def api_index(rooms, anchors, package):
    "`rooms`: (module, subtitle, address, notebook); names link to their card (`anchors`: address -> ids), else to their page"
    out = ['# API index', '', '<p class="subtitle" markdown="1">Every public name, the page that explains it, and its first line</p>', '']
    for module, sub, to, nb in rooms:
        if not (names := public_names(nb)): continue
        out += [f'## {module}', '', f'`{package}.{module}`: [{sub or to}]({to})', '', '<div class="names" markdown="1">', '']
        for n, doc in sorted(names, key=lambda x: x[0].lower()):
            at = f'#{n.lower()}' if n.lower() in anchors.get(to, ()) else ''
            out.append(f'- [`{n}`]({to}{at}){": " + _plain(doc) if doc else ""}')
        out += ['', '</div>', '']
    return '\n'.join(out)

def _plain(doc): return re.sub(r'([*_<\[\]])', r'\\\1', doc) if '`' not in doc else doc.replace('<', '&lt;')

# Changes and citation

def changelog(text, version):
    "CHANGELOG.md as a page; links are as seen from the folder of the notebooks"
    up = lambda m: f']({m[1][4:]}' if m[1].startswith('nbs/') else f'](../{m[1]}'
    text = re.sub(r'\]\((?!https?:|#|mailto:)([^)\s]+)', up, text)
    return re.sub(r'^# .*\n', f'# Changelog\n\n<p class="subtitle">This documentation is that of version {version}</p>\n', text, count=1)

def cite(cff):
    "CITATION.cff as a page: a line, BibTeX, and the works that this one stands on"
    c = yaml.safe_load(cff)
    who = lambda x: ', '.join(a.get('name') or f'{a["given-names"]} {a["family-names"]}' for a in x['authors'])
    key, year = re.sub(r'\W', '', c['title']), f'  year = {{{str(c["date-released"])[:4]}}},\n' if 'date-released' in c else ''
    bib = (f'@software{{{key},\n  author = {{{{{who(c)}}}}},\n  title = {{{{{c["title"]}}}}},\n  version = {{{c["version"]}}},\n{year}'
           f'  license = {{{c["license"]}}},\n  url = {{{c["repository-code"]}}},\n}}')
    out = ['# Cite', '', f'<p class="subtitle">{c["message"]}</p>', '', f'> {who(c)}: *{_plain(c["title"])}*, version {c["version"]}. <{c["repository-code"]}>', '',
           '## BibTeX', '', f'```bibtex\n{bib}\n```', '', '## The works it stands on', '']
    for r in c.get('references', []):
        where = ', '.join(str(x) for x in (r.get('collection-title') or r.get('journal'), r['year']) if x)
        out.append(f'- {who(r)}: [{r["title"]}]({r["url"]}), {where}.' + (f' Here: {r["notes"]}.' if 'notes' in r else ''))
    return '\n'.join(out) + '\n'
