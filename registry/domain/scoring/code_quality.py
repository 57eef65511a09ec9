"""Code quality: whether the code in the version is of the kind that can be maintained.

Told by the files that careful work leaves behind, never by running or compiling anything. That
tests, pinned dependencies, checks and pipelines matter is common practice (OpenSSF Scorecard looks
at some of them, https://github.com/ossf/scorecard/blob/main/docs/checks.md); that pickles are code
nobody can review is in Python's documentation of `pickle`. The weights are ours.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome, summed


def code_quality(evidence: Evidence) -> Outcome:
    """Tests 0.25, dependencies named 0.15 and pinned 0.15, checks 0.15, pipeline 0.1, rest 0.2.

    The rest: scripts and not notebooks alone 0.1, no pickles 0.1.
    """
    files = evidence.files
    said = {
        "scripts": files.scripts,
        "notebooks": files.notebooks,
        "tests": files.tests,
        "pickles": files.pickles,
        "dependency_files": files.dependency_files,
        "lock_files": files.lock_files,
        "pinned_requirements": files.pinned_requirements,
        "check_files": files.check_files,
        "pipeline_files": files.pipeline_files,
        "examples": list(files.examples),
        "is_cut": files.is_cut,
    }
    if not (files.scripts or files.notebooks or files.tests or files.pickles):
        return Outcome(None, said, "there is no code in the version")
    value, parts = summed(
        {
            "tests": (0.25, files.tests),
            "dependencies": (0.15, files.dependency_files + files.lock_files),
            "pinned": (0.15, bool(files.lock_files or files.pinned_requirements)),
            "checks": (0.15, files.check_files),
            "pipeline": (0.1, files.pipeline_files),
            "scripts": (0.1, files.scripts),
            "no_pickles": (0.1, not files.pickles),
        }
    )
    return Outcome(value, {**said, "parts": parts})
