"The site's configuration, read by Sphinx. The pages are written by pages.py into _proc/site: see README.md."
import re, sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(Path(__file__).parent))

project = 'ttl_nb'
author = 'The ttl_nb contributors'
copyright = f'{author}, Apache-2.0'
release = version = re.search(r'__version__ = "(.+)"', (ROOT/'ttl_nb/__init__.py').read_text(encoding='utf-8'))[1]
html_title = f'{project} {version}'
language = 'en-GB'

extensions = ['myst_nb', 'mathml']
source_suffix = {'.ipynb': 'myst-nb', '.md': 'myst-nb'}
exclude_patterns = ['**.ipynb_checkpoints']
highlight_language = 'text'

# Notebooks come executed, and no widget is looked for on the net.
nb_execution_mode = 'off'
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_code_prompt_show = nb_code_prompt_hide = 'Code'

myst_enable_extensions = ['dollarmath', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
myst_heading_slug_func = 'pages.anchor'
myst_dmath_allow_space = False
suppress_warnings = ['myst.header']      # a name is a heading of the third level, wherever it is exported

html_theme = 'furo'
html_baseurl = 'https://ttl-nb.github.io/ttl_nb/'
html_static_path = ['static']
html_css_files = ['site.css']
html_extra_path = ['../_proc/extra']
html_copy_source = False
html_show_search_summary = False       # fetched from each page found, which no browser does from a disk
html_show_sphinx = False
html_math_renderer = 'mathml'
html_theme_options = dict(source_repository='https://github.com/ttl-nb/ttl_nb/', navigation_with_keys=True)
