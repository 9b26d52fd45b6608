# Programs of others, in an environment of their own (`make peers`): never a part of the workflow's.


rule auto_sharpen:
    input:
        unpack(lambda w: required(w, "map") | files_of(w, "metadata")),
    output:
        map="results/work/{id}/auto_sharpened.mrc",
    log:
        "results/work/{id}/auto_sharpen.log",
    conda:
        "../../envs/cryoready.yaml"  # of the shell; the peers have their own
    resources:
        mem_mb=mem_mb("auto_sharpen", size_of("map")),
        runtime=runtime("auto_sharpen", size_of("map")),
    params:
        science=science("auto_sharpen"),
        options=auto_sharpen_options,
        python=str(PEERS / "bin" / "python"),
        script=os.path.relpath(SCRIPTS / "auto_sharpen.py"),
    message:
        "{wildcards.id}: sharpen {input.map} as phenix.auto_sharpen does, to be compared with"
    shell:
        # of our own Python nothing but the package beside the script is on its import path
        "{params.python:q} -E -s {params.script:q} {input.map:q} {output.map:q} {params.options:q} > {log:q}"
