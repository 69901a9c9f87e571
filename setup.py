"Reads settings.ini (name, requirements, extras …) and the version of `ttl_nb/__init__.py`; static fields are in pyproject.toml."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
cfg = ConfigParser(interpolation=None)
cfg.read(here/'settings.ini', encoding='utf-8')
project = cfg['project']
version = re.search(r'^__version__ *= *["\'](.+?)["\']', (here/'ttl_nb/__init__.py').read_text(encoding='utf-8'), re.M)[1]


def lines(text): return [o.strip() for o in text.splitlines() if o.strip()]


setup(
    version=version,
    description=project['description'],
    long_description=(here/'README.md').read_text(encoding='utf-8'),
    long_description_content_type='text/markdown',
    author=project['author'],
    keywords=[o.strip() for o in project['keywords'].split(',')],
    license_expression=project['license'],
    packages=find_packages(include=['ttl_nb', 'ttl_nb.*']),
    package_data={'': ['*.js', '*.css', '*.html', '*.safetensors']},
    install_requires=lines(project['requirements']),
    extras_require={k: lines(v) for k, v in cfg['extras'].items()},
    entry_points={'console_scripts': lines(project['console_scripts']), 'nbdev': ['ttl_nb=ttl_nb._modidx:d']},
)
