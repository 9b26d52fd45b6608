"""Catalogue, sequences and clusters -> candidates with their splits, and why others are none."""

from pathlib import Path

from cryoready.dataset.candidates import choose_candidates
from cryoready.dataset.catalogue import load_catalogue
from cryoready.dataset.select import told_counts
from step import step

with step(snakemake) as report:
    settings, to, config = snakemake.params.settings, snakemake.output, snakemake.config
    catalogue = load_catalogue(Path(snakemake.input.table))
    found = choose_candidates(catalogue, settings, config, threads=snakemake.threads)
    for line in told_counts(found.table, found.filters, settings["counts"]):
        report(line)
    for line in found.lines(cores=snakemake.threads):
        report(line)
    found.cost.check(most_gigabytes=config["dataset"]["most_gigabytes"])
    found.write(Path(to.table), Path(to.provenance))
