# A model built into the enhanced map by a program of others, to be compared with the deposited one.
#
# A program that is not on the PATH, or lacks an input, is no error: the JSON says so. The program
# works in the folder named like the JSON, which stays after a failure. What is on the PATH does not
# count as a parameter, or a finished model would be lost in a shell without the program; so a step
# skipped for want of one is repeated with --forcerun build_model.


rule build_model:
    input:
        unpack(model_of),
        map="results/{id}_emready.mrc",
    output:
        card="results/work/{id}/built_model.json",
    log:
        "results/work/{id}/build_model.log",
    conda:
        "../../envs/cryoready.yaml"
    threads: CORES
    resources:
        gpu=0,
        mem_mb=lambda _, attempt: 16000 * attempt,  # not measured: programs of others
        runtime=lambda _, attempt: 1440 * attempt,
    params:
        science=science("build_model"),
        settings=lambda w: {
            "program": EVALUATION["build_model"],
            **cells_of(w, "resolution"),
        },
    message:
        "{wildcards.id}: build a model into {input.map} with {params.settings[program]}"
    script:
        "../scripts/build_model.py"
