"""Fields of tools in chat bodies: what may be called, what was called, what came of it."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from deployer.serve.strict_body import Body

# The key under which Anthropic's documents (fine-grained tool streaming) tell clients to give a call's input
# that is no JSON back to the model. Our answers have it too: a model that is free to call may write anything.
NOT_AN_OBJECT = "INVALID_JSON"
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


class Function(Body):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None  # JSON schema; None: any object
    strict: bool | None = None  # hold a call to the schema also where the model is free to call


class Tool(Body):
    """A tool; functions are the only kind."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """The name in a choice."""

    name: FunctionName


class NamedTool(Body):
    """The one tool that must be called."""

    type: Literal["function"]
    function: NamedFunction


class CalledFunction(Body):
    """A call in an earlier turn; arguments are JSON in a string."""

    name: str
    arguments: str


class ToolCall(Body):
    """A call of an assistant's turn."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction


def _choice_tag(value: Any) -> str | None:
    return "(word)" if isinstance(value, str) else "(named)" if isinstance(value, dict | NamedTool) else None


ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("(word)")] | Annotated[NamedTool, Tag("(named)")],
    Discriminator(
        _choice_tag,
        custom_error_type="tool_choice",
        custom_error_message="must be `none`, `auto`, `required` or an object that names a function",
    ),
]
