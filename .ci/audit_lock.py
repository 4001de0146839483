"""Known vulnerabilities in requirements.lock, as ``make audit`` asks pip-audit for them.

Exit code 0: none is known, or nobody could be asked, which is said in one line. 1: some are known, and they are named;
or pip-audit did not do its work, and its own words are shown. Where an index has no vulnerability data it answers "not
found" for every package, and pip-audit by itself then says that no vulnerability is known: that counts as not asked.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parent.parent / "requirements.lock"
LIMIT_S = 120.0
SOCKET_S = "10"
UNREACHABLE = re.compile(
    r"^(?:requests\.exceptions\.(?:ConnectionError|ConnectTimeout|ReadTimeout|ProxyError|SSLError):.*"
    r"|requests\.exceptions\.HTTPError: (?:403|407|429|5\d\d) .*"
    r"|.*Could not connect to \S+ vulnerability feed.*|.*PyPI is not redirecting properly.*)$",
    re.MULTILINE,
)
"""What pip-audit's last words are where a network, a proxy or the service itself is in the way."""


def command(lock: Path) -> list[str]:
    """pip-audit on a file in which every version is pinned: nothing is resolved and nothing installed."""
    return [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(lock), "--no-deps", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off", "--timeout", SOCKET_S),
    ]


def verdict(code: int, out: str, err: str) -> tuple[int, str]:
    """The exit code, and what to say, of an answer of pip-audit."""
    try:
        packages: list[dict[str, Any]] = json.loads(out)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if code != 0 and (reason := UNREACHABLE.search(err)):
            return 0, f"audit: not done, the vulnerability service cannot be reached ({_short(reason[0])})"
        return 1, f"audit: pip-audit failed with exit code {code}\n{err.strip() or out.strip()}"
    asked = [one for one in packages if "vulns" in one]
    unknown = sorted(one["name"] for one in packages if "vulns" not in one)
    found = [_line(one, bug) for one in asked for bug in one["vulns"]]
    if found:
        return 1, "\n".join([f"audit: {len(found)} known vulnerabilities in {len(asked)} packages", *found])
    if code != 0 or not packages:
        return 1, f"audit: pip-audit failed with exit code {code} on {len(packages)} packages\n{err.strip()}"
    if not asked:
        return 0, f"audit: not done, the vulnerability service here knows none of the {len(packages)} packages"
    beside = f"; it does not know {', '.join(unknown)}" if unknown else ""
    return 0, f"audit: no vulnerability is known in {len(asked)} packages{beside}"


def _line(package: dict[str, Any], bug: dict[str, Any]) -> str:
    names = ", ".join(dict.fromkeys([bug["id"], *bug.get("aliases", [])]))
    fixed = ", ".join(bug.get("fix_versions", [])) or "no version yet"
    return f"  {package['name']} {package['version']}: {names}; fixed in {fixed}"


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:157]}..."


def main() -> int:
    """Ask, say what was found, return the exit code."""
    try:
        done = subprocess.run(command(LOCK), capture_output=True, text=True, timeout=LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        print(f"audit: not done, the vulnerability service did not answer within {LIMIT_S:.0f} s")
        return 0
    code, said = verdict(done.returncode, done.stdout, done.stderr)
    print(said)
    return code


if __name__ == "__main__":
    sys.exit(main())
