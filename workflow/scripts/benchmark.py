"""Evaluations of maps of the benchmark and the published figures -> our column beside theirs."""

import json
from pathlib import Path

import pandas as pd

from cryoready.core.whole_files import written_whole
from cryoready.metrics.benchmark import compare, join, reproduce
from step import step

with step(snakemake) as report:
    yardstick = pd.read_csv(snakemake.input.yardstick, sep="\t")
    evaluations = [json.loads(Path(path).read_text()) for path in snakemake.input.evaluations]
    maps = join(yardstick, evaluations)
    reproduction = reproduce(maps)
    report(f"published values of the deposited maps, measured again on {len(maps)} maps:")
    for row in reproduction.itertuples():
        report(f"  {row.metric} {row.mask}".rstrip() + f": {row.verdict}")
    tables = {"maps": maps, "reproduction": reproduction, "table": compare(maps, reproduction)}
    for name, table in tables.items():
        with written_whole(Path(snakemake.output[name])) as part:
            table.to_csv(part, sep="\t", index=False, float_format="%.6g")
