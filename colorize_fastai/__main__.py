"`python -m colorize_fastai` is the command `colorize`"
from .cli import colorize

raise SystemExit(colorize())
