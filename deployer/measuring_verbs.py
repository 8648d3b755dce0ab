"""The verbs that run a model over loads and questions: what it reaches, knows, and loses to fewer bits."""

from collections.abc import Mapping

from deployer.verb import DEPLOYMENT, OptionGroup, Verb

MEASURING: Mapping[str, Verb] = {
    "bench": Verb(
        section="Measure",
        summary="measure the engine alone and through the server, or a server that runs (bench.url=...)",
        usage=DEPLOYMENT,
        examples=(
            ("deploy bench +model=pocket_vl bench.requests=8", "the engine alone, then a server of its own"),
            ("deploy bench +model=pocket_vl bench.url=http://127.0.0.1:23333", "a server that runs"),
            (
                "deploy bench +model=pocket_vl bench.concurrency=[1,4] output=json",
                "other loads, for programs",
            ),
        ),
        run="deployer.bench.run:run",
        groups=(
            OptionGroup(name="bench", option="default", kind="deployer.bench.options:BenchOptions"),
            OptionGroup(name="hardware", option="h200", kind="deployer.plan.hardware:Hardware"),
        ),
    ),
    "parity": Verb(
        section="Measure",
        summary="hold a checkpoint to what its reference implementation computed (model.path=DIR)",
        usage="+model=local model.path=DIR",
        examples=(
            (
                "deploy parity +model=local model.path=DIR",
                "every path of the engine against the reference",
            ),
            (
                "deploy parity +model=local model.path=DIR engine.dtype=bfloat16",
                "in another number format",
            ),
            (
                "deploy parity +model=local model.path=DIR output=json",
                "for programs",
            ),
        ),
        run="deployer.parity.command:run",
        takes="words",
        groups=(OptionGroup(name="parity", option="default", kind="deployer.parity.options:ParityOptions"),),
    ),
    "sweep": Verb(
        section="Measure",
        summary="run, resume, show, promote: measure many deployments (also `deploy -m bench key=a,b`)",
        usage="run|resume|show|promote ...",
        examples=(
            (
                "deploy sweep run +model=pocket_vl engine=pytorch engine.max_batch_size=8,16",
                "measure both; the same as deploy -m bench ...",
            ),
            ("deploy sweep resume sweeps/RUN", "go on where it was ended"),
            ("deploy sweep promote sweeps/RUN point=2 as=prod", "a point as a locked recipe"),
        ),
        run="deployer.sweeps.command:run",
        takes="words",
        groups=(OptionGroup(name="sweep", option="default", kind="deployer.sweeps.options:SweepOptions"),),
    ),
    "evaluate": Verb(
        section="Measure",
        summary="ask held-out questions about pictures and print the accuracy by kind",
        usage=DEPLOYMENT,
        examples=(
            ("deploy evaluate +model=pocket_vl", "2,000 questions"),
            ("deploy evaluate +model=pocket_vl evaluate.questions=200 evaluate.wrong=5", "a quick look"),
            ("deploy evaluate +model=pocket_vl output=json", "for programs"),
        ),
        run="deployer.pocket_vl.evaluate:run",
        groups=(
            OptionGroup(
                name="evaluate",
                option="default",
                kind="deployer.pocket_vl.evaluate_options:EvaluateOptions",
            ),
        ),
    ),
    "quantize": Verb(
        section="Make",
        summary="write a quantized copy of a checkpoint, calibrated on pictures and text (quantize.out=DIR)",
        usage="[recipe.yaml] [+model=<name>] quantization=<format> quantize.out=DIR [<key>=<value>]",
        examples=(
            ("deploy quantize +model=pocket_vl quantization=awq quantize.out=DIR", "4-bit weights"),
            (
                "deploy quantize +model=internvl2_8b quantization=fp8 quantize.out=DIR quantize.samples=PICS",
                "8-bit floats, judged on your own data",
            ),
            (
                "deploy quantize +model=pocket_vl quantization=awq quantize.out=DIR quantize.questions=500",
                "with the accuracy before and after",
            ),
        ),
        run="deployer.quantize.command:run",
        groups=(
            OptionGroup(name="quantize", option="default", kind="deployer.quantize.options:QuantizeOptions"),
        ),
    ),
}
