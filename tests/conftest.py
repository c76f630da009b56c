"""Fixtures that several test files share."""
import shutil
from pathlib import Path
import pytest

root = Path(__file__).resolve().parent.parent

@pytest.fixture(scope='session')
def top():
    "What stands at the top of the project, and nothing else does"
    return set('''nbs colorize_fastai settings.ini setup.py README.md tests pyproject.toml MANIFEST.in LICENSE CHANGELOG.md
        .github .ci .gitignore .gitattributes .pre-commit-config.yaml'''.split())

@pytest.fixture(scope='session')
def copy_project(top):
    "Copies the project, as it is on disk, into a folder"
    def _copy(dst):
        dst.mkdir(parents=True, exist_ok=True)
        for n in top:
            if (root/n).is_dir(): shutil.copytree(root/n, dst/n, ignore=shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints'))
            elif (root/n).exists(): shutil.copy(root/n, dst/n)
        return dst
    return _copy
