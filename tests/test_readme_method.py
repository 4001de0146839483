"""The README's own method does what the README says, from its text."""

from __future__ import annotations

import re
from pathlib import Path

from harness import cli
from tests.harness_fixtures import PROJECT, directory, load, new_results


def _blocks_of_the_readme() -> dict[str, str]:
    section = (PROJECT / "README.md").read_text().split("## Add your own method\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", section, flags=re.DOTALL)
    return {name: text.replace("suites/", f"{PROJECT}/suites/") for name, text in blocks}


def test_the_method_of_the_readme_stands_on_the_page_beside_ours(tmp_path: Path) -> None:
    blocks = _blocks_of_the_readme()
    assert set(blocks) == {"my_method.py", "my_study.yaml"}
    assert blocks["my_method.py"].count("\n") < 40
    for name, text in blocks.items():
        (tmp_path / name).write_text(text)
    results = new_results(tmp_path / "results")
    size = ["--scale", "smoke", "--results", str(results)]
    assert cli.main(["reproduce", str(tmp_path / "my_study.yaml"), *size, "--workers", "1"]) == 0
    study = load(tmp_path / "my_study.yaml", "smoke")
    assert list(study.file.methods) == ["fomaml", "pulled", "not_pulled"]
    evidence = (results / "reports" / "my_study_smoke" / "my_study_smoke-evidence.csv").read_text()
    page = (results / "reports" / "my_study_smoke.html").read_text()
    pulled = [run for run in study.plan() if run.method == "pulled"]
    assert len(pulled) == 2
    for run in pulled:
        assert f",pulled,{run.spec.seed}," in evidence
        assert run.spec.run_id in evidence
    assert "pulled" in page
    own = {run.method: directory(results, run).returns.read_bytes() for run in study.plan([0])}
    assert len(set(own.values())) == 3
