"""One file of the public archives, from the first mirror that has it."""

from pathlib import Path

from cryoready.dataset.download import KINDS, download
from step import step

with step(snakemake) as report:
    options = snakemake.params
    urls, check = KINDS[options.kind]
    used = download(
        urls(options.key, options.archive[options.kind]),
        Path(snakemake.output[0]),
        check=check,
        timeout=options.archive["timeout"],
        retries=options.archive["retries"],
    )
    report(f"{snakemake.output[0]}: from {used}")
