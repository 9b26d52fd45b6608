"""Maps and model of one entry -> scores before and after, as JSON and tables."""

from cryoready.dataset.fitted import with_fitted_model
from cryoready.metrics.evaluate import evaluate
from cryoready.report.evaluation import estimate, read_subject, write_evaluation
from step import step

with step(snakemake) as report:
    files, settings = with_fitted_model(dict(snakemake.input)), snakemake.params.settings
    subject, facts = read_subject(files, settings)
    report(estimate(subject))
    evaluation = evaluate(
        subject, sigma=settings["sigma"], local_radius=settings["local_radius"], report=report
    )
    to = dict(snakemake.output)
    report(write_evaluation(evaluation, subject, facts, files, settings, to))
    for line in evaluation.summary["warnings"]:
        report(f"warning: {line}")
