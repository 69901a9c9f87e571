"""Constraints for pip that take every requirement of settings.ini at its lower bound: `python tests/lowest.py [EXTRA…] > lowest.txt`

Standard library only. A bound without a third number means the first release of it: `torch>=2.14` is `torch==2.14.0`, which pip calls `2.14`."""
import re, sys
from configparser import ConfigParser
from pathlib import Path


def lowest(extras=()): # Names of extras whose requirements are asked for, too
    "Lines `name==version` for what settings.ini bounds from below."
    cfg = ConfigParser(interpolation=None)
    cfg.read(Path(__file__).resolve().parents[1]/'settings.ini', encoding='utf-8')
    stated = '\n'.join([cfg['project']['requirements'], *(cfg['extras'][o] for o in extras)])
    found = dict(m.groups() for o in stated.split('\n') if (m := re.match(r'([\w.-]+)>=([\w.]+)', o.strip())))
    return [f'{k}=={v}' for k, v in found.items()]


if __name__ == '__main__': print(*lowest(sys.argv[1:]), sep='\n')
