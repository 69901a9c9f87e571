"The audit of dependencies warns, and never fails: of weaknesses, of a missing tool, of a missing network."
import json, subprocess, sys

import audit
from project import ROOT

REPORT = dict(dependencies=[dict(name="pillow", version="9.0", vulns=[dict(id="PYSEC-1", fix_versions=["9.1"]), dict(id="PYSEC-2", fix_versions=[])]),
                            dict(name="numpy", version="2.0", vulns=[]), dict(name="odd", skip_reason="not on PyPI")])


def tool(tmp_path, code): # A stand-in for pip-audit
    (tmp_path/"tool.py").write_text(code)
    return sys.executable, str(tmp_path/"tool.py")


def test_weaknesses_are_listed(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    lines = audit.audit(tool(tmp_path, f"import sys; print({json.dumps(REPORT)!r}); sys.exit(1)"))
    assert lines == ["warning: pillow 9.0: PYSEC-1; mended in 9.1", "warning: pillow 9.0: PYSEC-2; not mended yet"]
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert audit.audit(tool(tmp_path, f"print({json.dumps(REPORT)!r})"))[0].startswith("::warning title=dependency audit::pillow 9.0")
    assert audit.audit(tool(tmp_path, "print('{\"dependencies\": []}')")) == ["no known weakness in what is installed"]


def test_without_the_tool_or_a_network(tmp_path, monkeypatch):
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert audit.audit(tool(tmp_path, "import sys; sys.exit('ConnectionError: no route to pypi.org')")) == ["warning: no audit: ConnectionError: no route to pypi.org"]
    assert audit.audit(tool(tmp_path, "raise ModuleNotFoundError(\"No module named pip_audit\")")) == [f"warning: no audit: {audit.MISSING}"]
    assert audit.audit(tool(tmp_path, "print('no json')")) == ["warning: no audit: it said nothing"]
    assert audit.audit(("/nowhere/pip-audit",)) == ["warning: no audit: FileNotFoundError"]
    assert audit.audit(tool(tmp_path, "import time; time.sleep(30)"), seconds=.5) == ["warning: no audit: TimeoutExpired"]


def test_the_command_ends_well():
    r = subprocess.run([sys.executable, "-c", "import sys, runpy; sys.argv = ['audit']; sys.modules['pip_audit'] = None; runpy.run_path('tests/audit.py')"], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
