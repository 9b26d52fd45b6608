"""Evaluations of all entries of the sheet -> one table and one page."""

import json
from pathlib import Path

from cryoready.core.whole_files import written_whole
from cryoready.report.evaluation import summary_table
from cryoready.report.page import write_summary_page
from step import step

with step(snakemake) as report:
    evaluations = [
        json.loads(Path(path).read_text(encoding="utf-8")) for path in snakemake.input.summaries
    ]
    with written_whole(Path(snakemake.output.table)) as part:
        summary_table(evaluations).to_csv(part, sep="\t", index=False, float_format="%.6g")
    write_summary_page(Path(snakemake.output.page), evaluations)
    report(f"{len(evaluations)} entries: {snakemake.output.page}")
