# Files of the public archives. Everything below `cache` is kept and never fetched twice: mirrors are
# no params, so that another list of them reruns nothing.
#
# Downloads run where Snakemake does, for compute nodes often have no internet, and take no core: while
# one map is enhanced on all of them, the next ones arrive.


rule download_map:
    output:
        f"{CACHE}/{{emdb}}/emd_{{number}}.map.gz",
    log:
        "results/work/{emdb}/download_map_{number}.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
        number=r"\d{4,5}",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    threads: 0
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        kind="maps",
        key=lambda w: w.emdb,
    message:
        "{wildcards.emdb}: download the map from EMDB"
    script:
        "../scripts/download.py"


rule download_metadata:
    input:
        # one after the other: a wrong id or a dead network is then one error, not two at a time
        map=ancient(lambda w: f"{CACHE}/{w.emdb}/emd_{w.emdb[4:]}.map.gz"),
    output:
        f"{CACHE}/{{emdb}}/metadata.json",
    log:
        "results/work/{emdb}/download_metadata.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    threads: 0
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        kind="metadata",
        key=lambda w: w.emdb,
    message:
        "{wildcards.emdb}: download resolution, contour and title from EMDB"
    script:
        "../scripts/download.py"


rule download_half_map:
    output:
        f"{CACHE}/{{emdb}}/emd_{{number}}_half_map_{{half}}.map.gz",
    log:
        "results/work/{emdb}/download_half_map_{number}_{half}.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
        number=r"\d{4,5}",
        half="[12]",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    threads: 0
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        kind=lambda w: f"half_map_{w.half}",
        key=lambda w: w.emdb,
    message:
        "{wildcards.emdb}: download half-map {wildcards.half} from EMDB"
    script:
        "../scripts/download.py"


rule download_model:
    output:
        f"{CACHE}/models/{{pdb}}.cif.gz",
    log:
        "results/work/models/{pdb}.log",
    wildcard_constraints:
        pdb=r"\d[a-z0-9]{3}",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    threads: 0
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        kind="models",
        key=lambda w: w.pdb,
    message:
        "{wildcards.pdb}: download the model from the PDB"
    script:
        "../scripts/download.py"


# Whether there is a model is known only from the metadata, but not where it will lie.
rule download_fitted_model:
    input:
        metadata=ancient(f"{CACHE}/{{emdb}}/metadata.json"),
    output:
        folder=directory(f"{CACHE}/{{emdb}}/fitted"),
    log:
        "results/work/{emdb}/download_fitted_model.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    threads: 0
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    message:
        "{wildcards.emdb}: download the model that EMDB names as fitted into the map, if any"
    script:
        "../scripts/download_fitted_model.py"


# A checkpoint: whether an entry has half-maps is known only from its metadata. One for each entry:
# the plan is made anew for each, so only `evaluation.half_maps` asks for it.
checkpoint half_maps_known:
    input:
        ancient(f"{CACHE}/{{emdb}}/metadata.json"),
    output:
        touch("results/work/{emdb}/half_maps.known"),
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
    localrule: True
    message:
        "{wildcards.emdb}: see in the metadata whether there are half-maps"


rule catalogue:
    output:
        table="results/dataset/catalogue.tsv",
        provenance="results/dataset/catalogue.json",
    log:
        "results/dataset/catalogue.log",
    localrule: True
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
        mem_mb=mem_mb("download"),
        runtime=runtime("download"),
    params:
        science=science("catalogue"),
        settings={"query": DATASET["query"]},
    message:
        "ask EMDB for all its entries with a fitted model, page by page: {output.table}"
    script:
        "../scripts/catalogue.py"


# A checkpoint: which pairs there are to prepare is known only then.
checkpoint select:
    input:
        table="results/dataset/catalogue.tsv",
        models=lambda _: list(held_out_models().values()),
    output:
        table="results/dataset/candidates.tsv",
        provenance="results/dataset/candidates.json",
    log:
        "results/dataset/select.log",
    conda:
        "../../envs/cryoready.yaml"
    threads: CORES
    resources:
        downloads=1,
        mem_mb=mem_mb("select"),
        runtime=runtime("select"),
    params:
        science=science("select_candidates"),
        settings=select_settings,
    message:
        "filter the catalogue, keep one entry for each cluster of sequences, split: {output.table}"
    script:
        "../scripts/select_candidates.py"


rule dataset:
    input:
        candidates="results/dataset/candidates.tsv",
        provenance=["results/dataset/catalogue.json", "results/dataset/candidates.json"],
        cards=dataset_cards,
    output:
        entries="results/dataset/entries.tsv",
        pairs="results/dataset/pairs.tsv",
        provenance="results/dataset/provenance.json",
        page="results/dataset/dataset.html",
    log:
        "results/dataset/dataset.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        mem_mb=mem_mb("table"),
        runtime=runtime("table"),
    params:
        science=science("dataset"),
        settings={key: DATASET[key] for key in ("counts", "pair")},
    message:
        "judge the prepared pairs: {output.entries}"
    script:
        "../scripts/dataset.py"
