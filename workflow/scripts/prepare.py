"""Map and model of one entry -> boxes of its 1 Å map and target for training, card, picture."""

from pathlib import Path

from cryoready.core.errors import CryoreadyError, TransientError
from cryoready.dataset.fetch import fetched, known_checksum
from cryoready.dataset.pairs import prepare_entry, write_no_pair
from cryoready.dataset.sheet import CANDIDATES, read_candidates
from cryoready.report.pair_figure import plot_no_pair, plot_pair
from step import step

with step(snakemake) as report:
    entry_id, settings = snakemake.wildcards.id, snakemake.params.settings
    to, config = dict(snakemake.output), snakemake.config
    known_checksum(config["archive"]["checksums"], "map", "")  # a bad setting is no unfit entry
    try:
        with fetched(settings["archived"], Path(to["card"]).parent, config, report) as files:
            pair, lines = prepare_entry(entry_id, dict(snakemake.input) | files, to, settings)
        plot_pair(pair.map, pair.target, title=lines[0], path=Path(to["picture"]))
        for line in lines:
            report(line)
    except TransientError:
        raise
    except CryoreadyError as error:
        # a candidate of the data set may turn out unfit, an entry that the user chose may not
        if entry_id not in read_candidates(CANDIDATES):
            raise
        write_no_pair(entry_id, str(error), to, settings)
        plot_no_pair(entry_id, str(error), path=Path(to["picture"]))
        report(f"{entry_id} is left out: {error}")
