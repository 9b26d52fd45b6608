"""One file of the public archives, from the first mirror that has it."""

from pathlib import Path

from cryoready.dataset.download import KINDS, download
from step import step

with step(snakemake) as report:
    kind, archive = snakemake.params.kind, snakemake.config["archive"]
    urls, check = KINDS[kind]
    used = download(
        urls(snakemake.params.key, archive[kind]),
        Path(snakemake.output[0]),
        check=check,
        timeout=archive["timeout"],
        retries=archive["retries"],
    )
    report(f"{snakemake.output[0]}: from {used}")
