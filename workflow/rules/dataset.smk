# Files of the public archives. Everything below `cache` is kept and never fetched twice: mirrors are
# no params, so that another list of them reruns nothing.


rule download_map:
    output:
        f"{CACHE}/{{emdb}}/emd_{{number}}.map.gz",
    log:
        "results/work/{emdb}/download_map_{number}.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
        number=r"\d{4,5}",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
    params:
        kind="maps",
        key=lambda w: w.emdb,
    message:
        "{wildcards.emdb}: download the map from EMDB"
    script:
        "../scripts/download.py"


# A checkpoint: which model was fitted into a map is known only then.
checkpoint download_metadata:
    input:
        # one after the other: a wrong id or a dead network is then one error, not two at a time
        map=ancient(lambda w: f"{CACHE}/{w.emdb}/emd_{w.emdb[4:]}.map.gz"),
    output:
        f"{CACHE}/{{emdb}}/metadata.json",
    log:
        "results/work/{emdb}/download_metadata.log",
    wildcard_constraints:
        emdb=r"EMD-\d{4,5}",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
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
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
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
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
    params:
        kind="models",
        key=lambda w: w.pdb,
    message:
        "{wildcards.pdb}: download the model from the PDB"
    script:
        "../scripts/download.py"


rule catalogue:
    output:
        table="results/dataset/catalogue.tsv",
        provenance="results/dataset/catalogue.json",
    log:
        "results/dataset/catalogue.log",
    conda:
        "../../envs/cryoready.yaml"
    resources:
        downloads=1,
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
    threads: workflow.cores or 1
    resources:
        downloads=1,
        mem_mb=4000,
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
    params:
        science=science("dataset"),
        settings={key: DATASET[key] for key in ("counts", "pair")},
    message:
        "judge the prepared pairs: {output.entries}"
    script:
        "../scripts/dataset.py"
