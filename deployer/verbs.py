"""The verbs of the command line: what each does, and the function behind it, imported when it runs."""

from collections.abc import Mapping

from deployer.measuring_verbs import MEASURING
from deployer.verb import DEPLOYMENT, OptionGroup, Verb

PLANNED = (  # what a verb reads that prices the deployment
    OptionGroup(name="plan", option="default", kind="deployer.plan.options:PlanOptions"),
    OptionGroup(name="hardware", option="h200", kind="deployer.plan.hardware:Hardware"),
)

LIFECYCLE = (OptionGroup(name="up", option="default", kind="deployer.targets.lifecycle:UpOptions"), *PLANNED)

VERBS: Mapping[str, Verb] = {
    "serve": Verb(
        section="Run",
        summary="start the engine and the OpenAI server (what `deploy` does without a verb)",
        usage=DEPLOYMENT,
        examples=(
            ("deploy serve +model=pocket_vl", "the model that ships, on http://127.0.0.1:23333"),
            (
                "deploy serve +model=internvl2_8b engine=turbomind engine.tp=2",
                "choose the engine, split over two GPUs",
            ),
            ("deploy serve +recipe=pocket_vl_cpu server.port=8000", "a recipe that ships, on another port"),
        ),
        shown_keys=("server/openai",),
        run="deployer.config.resolve:start",
    ),
    "chat": Verb(
        section="Run",
        summary="talk to a model in the terminal, pictures included, or to a server (chat.url=...)",
        usage=DEPLOYMENT,
        examples=(
            ("deploy chat +model=pocket_vl", "start an engine here and talk to it"),
            ("deploy chat chat.url=http://127.0.0.1:23333", "talk to a server that runs"),
            ("deploy chat +model=pocket_vl sampling.temperature=0", "the same answer every time"),
        ),
        run="deployer.chat.command:run",
        takes="words",
        groups=(OptionGroup(name="chat", option="default", kind="deployer.chat.options:ChatOptions"),),
    ),
    "explain": Verb(
        section="Understand",
        summary="print every value of a deployment with what set it",
        usage=f"[<key> ...] {DEPLOYMENT} [output=json]",
        examples=(
            ("deploy explain +model=internvl2_8b", "every value, with what set it"),
            ("deploy explain engine.tp +model=internvl2_8b engine.tp=2", "one value, and what it replaced"),
            ("deploy explain server vision +model=pocket_vl output=json", "two groups, for programs"),
        ),
        run="deployer.config.explain:run",
        takes="words",
    ),
    "plan": Verb(
        section="Understand",
        summary="print what a deployment needs and reaches on a GPU that need not be here",
        usage=DEPLOYMENT,
        examples=(
            ("deploy plan +model=internvl2_8b", "on one H200"),
            ("deploy plan +model=internvl2_8b hardware=l40s plan.images=4", "another GPU, another request"),
            ("deploy plan --against http://127.0.0.1:23333", "beside what a server got and does"),
            ("deploy plan --against bench.json", "beside what `deploy bench output=json` measured"),
        ),
        run="deployer.plan.command:run",
        flags=("--against=",),
        instead=("against", "deployer.plan.against:run"),
        groups=PLANNED,
    ),
    "render": Verb(
        section="Ship",
        summary="print or write the files of a target, or print the prompt of a messages file",
        usage="[recipe.yaml] [+model=<name>] [<key>=<value>] target=<kind> | render.messages=FILE",
        examples=(
            (
                "deploy render +model=internvl2_8b target=kubernetes render.out=k8s",
                "the manifests, a file an object",
            ),
            ("deploy render +model=pocket_vl hardware=cpu target=compose", "for a machine without a GPU"),
            (
                "deploy render +model=pocket_vl render.messages=messages.json",
                "the prompt, its tokens, what each picture costs",
            ),
        ),
        run="deployer.render:run",
        groups=(
            OptionGroup(name="render", option="default", kind="deployer.render:RenderOptions"),
            *PLANNED,
        ),
    ),
    "doctor": Verb(
        section="Understand",
        summary="say what this machine lacks for a deployment, and how to get it",
        usage=f"{DEPLOYMENT} [output=json]",
        examples=(
            ("deploy doctor", "the machine alone"),
            (
                "deploy doctor +model=internvl2_8b engine=turbomind",
                "for a deployment: exit code 1 where it lacks",
            ),
            ("deploy doctor +model=pocket_vl output=json", "for programs"),
        ),
        run="deployer.doctor.command:run",
        takes="words",
    ),
    "import-lmdeploy": Verb(
        section="Understand",
        summary="translate a command of LMDeploy: servers, chat, quantization",
        usage="[output=json] -- lmdeploy ...",
        examples=(
            ("deploy import-lmdeploy -- lmdeploy serve api_server OpenGVLab/InternVL2-8B --tp 2", "a server"),
            ("deploy import-lmdeploy -- lmdeploy chat OpenGVLab/InternVL2-8B", "the terminal"),
            ("deploy import-lmdeploy -- lmdeploy lite auto_awq OpenGVLab/InternVL2-8B", "4-bit weights"),
        ),
        run="deployer.lmdeploy.command:run",
        takes="command",
    ),
    "up": Verb(
        section="Ship",
        summary="start a deployment in the background, or where its target says, and wait for it",
        usage=DEPLOYMENT,
        examples=(
            ("deploy up +model=pocket_vl", "a server on this machine; ends with `deploy down`"),
            ("deploy up +model=internvl2_8b target=kubernetes up.out=k8s", "the manifests, applied"),
            ("deploy up +model=pocket_vl hardware=cpu target=compose", "a container"),
        ),
        run="deployer.targets.lifecycle:up",
        groups=LIFECYCLE,
    ),
    "status": Verb(
        section="Ship",
        summary="print how a deployment is that `deploy up` started; exit code 6 where it takes no requests",
        usage=DEPLOYMENT,
        examples=(
            ("deploy status", "every server that `deploy up` started on this machine"),
            ("deploy status target.name=second", "the one of that name"),
            ("deploy status +model=pocket_vl", "the server of that name on this machine"),
            ("deploy status +model=pocket_vl output=json", "for programs"),
            ("deploy status +model=internvl2_8b target=kubernetes", "what the cluster says of it"),
        ),
        run="deployer.targets.lifecycle:status",
        takes="words",
        groups=LIFECYCLE,
    ),
    "down": Verb(
        section="Ship",
        summary="end a deployment that `deploy up` started; it drains first",
        usage=DEPLOYMENT,
        examples=(
            ("deploy down", "the one server that `deploy up` started on this machine"),
            ("deploy down target.name=second", "the one of that name"),
            ("deploy down +model=pocket_vl", "the server of that model on this machine"),
            ("deploy down +model=internvl2_8b target=kubernetes up.out=k8s", "what was applied"),
        ),
        run="deployer.targets.lifecycle:down",
        takes="words",
        groups=LIFECYCLE,
    ),
    "list": Verb(
        section="Understand",
        summary="list what there is: models, engines, sampling, ...",
        usage="[<group>] [output=json]",
        examples=(
            ("deploy list", "the groups"),
            ("deploy list models", "every model, and whether this version runs it"),
            ("deploy list engine output=json", "the options of one group, for programs"),
        ),
        run="deployer.listing:run",
        takes="words",
    ),
    "recipe": Verb(
        section="Recipes",
        summary="list, show, new, lock, verify, diff, upgrade, drift: deployments that are kept and held to",
        usage="<sub-verb> [...]",
        examples=(
            ("deploy recipe list", "the recipes there are"),
            ("deploy recipe new prod.yaml +model=pocket_vl server.port=8000", "write one"),
            ("deploy recipe verify pocket_vl_cpu --offline", "hold one to its lock"),
        ),
        run="deployer.recipes.command:run",
        takes="words",
        flags=("--offline", "--against="),
    ),
    "diff": Verb(
        section="Recipes",
        summary="print how two deployments differ (recipes, locks, overrides, a running server)",
        usage="<deployment> <deployment>",
        examples=(
            ("deploy diff internvl2_8b_h200 internvl2_8b_l40s", "two recipes"),
            ("deploy diff prod.yaml.lock.json prod.yaml", "what changed since it was locked"),
            ("deploy diff prod.yaml http://127.0.0.1:23333", "a recipe and a server that runs"),
        ),
        run="deployer.recipes.diff:run",
        takes="words",
    ),
    **MEASURING,
    "completion": Verb(
        section="Shell",
        summary="print a completion script: bash, zsh or fish",
        usage="bash | zsh | fish",
        examples=(
            ("deploy completion bash >> ~/.bashrc", "bash, for good"),
            ("source <(deploy completion zsh)", "zsh, for this shell"),
            ("deploy completion fish > ~/.config/fish/completions/deploy.fish", "fish, for good"),
        ),
        run="deployer.completion:run",
        takes="words",
    ),
}
