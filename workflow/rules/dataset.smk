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
