"""Known weaknesses of the installed packages: `python tests/audit.py` warns of them and never fails.

Asks pip-audit (which asks PyPI's advisory database); without it, or without a network, it says so. Standard library only."""
import json, os, subprocess, sys

MISSING = "pip-audit is not installed: pip install pip-audit"


def findings(report): # What `pip-audit --format json` prints
    "(package, version, advisory, versions that mend it) of each weakness."
    packages = report.get("dependencies", report) if isinstance(report, dict) else report
    return [(p["name"], p["version"], v["id"], v.get("fix_versions") or []) for p in packages for v in p.get("vulns", ())]


def warning(text): return f"::warning title=dependency audit::{text}" if os.environ.get("GITHUB_ACTIONS") else f"warning: {text}"


def audit(command=(sys.executable, "-m", "pip_audit"), seconds=300): # Lines to print
    "What pip-audit found, or why it found nothing out."
    try: r = subprocess.run([*command, "--format", "json", "--progress-spinner", "off", "--skip-editable"], capture_output=True, text=True, timeout=seconds)
    except (OSError, subprocess.TimeoutExpired) as e: return [warning(f"no audit: {type(e).__name__}")]
    try: found = findings(json.loads(r.stdout))
    except (ValueError, KeyError, TypeError, AttributeError):
        why = MISSING if "No module named pip_audit" in r.stderr else (r.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
        return [warning(f"no audit: {why}")]
    lines = [warning(f"{name} {version}: {advisory}; {'mended in ' + ', '.join(mended) if mended else 'not mended yet'}") for name, version, advisory, mended in found]
    return lines or ["no known weakness in what is installed"]


if __name__ == "__main__": print("\n".join(audit()))
