"""``make audit``: what is said of every kind of answer of pip-audit, and that no failure passes for a clean one."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parent.parent
SPEC = importlib.util.spec_from_file_location("audit_lock", PROJECT / ".ci" / "audit_lock.py")
audit_lock = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(audit_lock)

CLEAN = {"name": "numpy", "version": "2.0.0", "vulns": []}
BAD = {
    "name": "jinja2",
    "version": "3.1.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-2"], "fix_versions": ["3.1.4"], "description": "x"}],
}
UNKNOWN = {"name": "ruff", "skip_reason": "Dependency not found on PyPI and could not be audited: ruff (0.1)"}


def answer(*packages):
    return json.dumps({"dependencies": list(packages), "fixes": []})


def test_a_vulnerability_fails_and_is_named():
    code, said = audit_lock.verdict(1, answer(CLEAN, BAD, UNKNOWN), "Found 1 known vulnerability in 1 package")
    assert code == 1
    assert "jinja2 3.1.0: PYSEC-1, CVE-2; fixed in 3.1.4" in said


def test_no_vulnerability_passes_and_says_of_how_many_packages():
    assert audit_lock.verdict(0, answer(CLEAN), "") == (0, "audit: no vulnerability is known in 1 packages")
    assert audit_lock.verdict(0, answer(CLEAN, UNKNOWN), "")[1].endswith("in 1 packages; it does not know ruff")


def test_a_service_that_knows_no_package_at_all_is_not_a_clean_bill():
    code, said = audit_lock.verdict(0, answer(UNKNOWN, UNKNOWN), "No known vulnerabilities found")
    assert (code, said) == (0, "audit: not done, the vulnerability service here knows none of the 2 packages")


@pytest.mark.parametrize(
    "last",
    [
        "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded",
        "requests.exceptions.ProxyError: HTTPSConnectionPool(host='x', port=443): Max retries exceeded",
        "requests.exceptions.SSLError: HTTPSConnectionPool(host='x', port=443): certificate verify failed",
        "requests.exceptions.ReadTimeout: HTTPSConnectionPool(host='x', port=443): Read timed out.",
        "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable for url: x",
        "requests.exceptions.HTTPError: 403 Client Error: Forbidden for url: x\n\nAnd then ...\npip_audit",
        "ERROR:pip_audit._cli:Could not connect to PyPI's vulnerability feed\nERROR:pip_audit._cli:Tip: ...",
    ],
)
def test_a_service_out_of_reach_is_one_line_and_passes(last):
    code, said = audit_lock.verdict(1, "", f"Traceback (most recent call last):\n  File x\n{last}\n")
    assert code == 0
    assert said.startswith("audit: not done, the vulnerability service cannot be reached (")
    assert "\n" not in said


@pytest.mark.parametrize(
    ("code", "out", "err"),
    [
        (1, "", "ERROR:pip_audit._cli:requirement numpy is not pinned to an exact version"),
        (1, "", "requests.exceptions.HTTPError: 400 Client Error: Bad Request for url: x"),
        (1, "", "/bin/python: No module named pip_audit"),
        (0, "", ""),
        (0, "not json", ""),
        (0, answer(), ""),
        (1, answer(CLEAN), ""),
        (-9, "", ""),
        (0, "[]", ""),
    ],
)
def test_any_other_failure_fails_and_shows_its_words(code, out, err):
    rc, said = audit_lock.verdict(code, out, err)
    assert rc == 1
    assert said.startswith(f"audit: pip-audit failed with exit code {code}")
    assert err in said


def test_a_service_that_hangs_is_given_up(monkeypatch, capsys):
    def hang(command, timeout, **options):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    assert audit_lock.main() == 0
    assert "did not answer within 120 s" in capsys.readouterr().out


def test_every_line_of_the_lock_is_one_exact_version_of_one_package():
    lines = [line for line in audit_lock.LOCK.read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!]+", line)] == []
    names = [re.sub(r"[-_.]+", "-", line.partition("==")[0]).lower() for line in lines]
    assert len(set(names)) == len(names)


def test_what_is_asked_of_pip_audit_it_understands():
    command = [*audit_lock.command(audit_lock.LOCK), "--dry-run"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"would have audited {len(audit_lock.LOCK.read_text().splitlines()) - 1} packages" in done.stderr
