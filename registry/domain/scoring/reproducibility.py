"""Reproducibility: whether enough is known to make the version again.

After the machine learning reproducibility checklist: Pineau et al., "Improving reproducibility in
machine learning research", JMLR 22, 2021 (arXiv:2003.12206), as far as a registry holds what it
asks for. The weights, and what counts as an answer, are ours. Nothing is run again.
"""

from __future__ import annotations

from registry.domain.scoring.evidence import Evidence, Outcome, Run, summed


def reproducibility(evidence: Evidence) -> Outcome:
    """Hyperparameters 0.2, environment 0.15, seed 0.15, data 0.1 and its version 0.1, code 0.1,
    pinned dependencies 0.1, results 0.1; of the run of the version that tells most."""
    files, lineage = evidence.files, evidence.lineage
    code = files.scripts + files.notebooks
    pinned = bool(files.lock_files or files.pinned_requirements)
    parameters = evidence.measured.parameters
    said = {
        "runs": len(evidence.runs),
        "version_parameters": parameters,
        "code_files": code,
        "pinned_dependencies": pinned,
        "datasets_in_lineage": len(lineage.datasets),
    }
    if not (evidence.runs or parameters or code or pinned or lineage.datasets):
        return Outcome(None, said, "nothing tells how the version was made")
    here = any(one.version is not None for one in lineage.datasets)
    measured = any(evidence.measured.splits.values())

    def told(run: Run) -> tuple[float, dict[str, object]]:
        return summed(
            {
                "hyperparameters": (0.2, bool(run.hyperparameters) or 0.5 * bool(parameters)),
                "environment": (0.15, run.environment),
                "seed": (0.15, run.has_seed),
                "data": (0.1, run.has_dataset or bool(lineage.datasets)),
                "data_version": (0.1, run.has_dataset_version or here),
                "code": (0.1, code),
                "pinned_dependencies": (0.1, pinned),
                "results": (0.1, run.has_metrics or measured),
            }
        )

    best = max(evidence.runs, key=lambda run: (told(run)[0], run.id), default=Run(id=""))
    value, parts = told(best)
    return Outcome(value, {**said, "best_run": best.id or None, "parts": parts})
