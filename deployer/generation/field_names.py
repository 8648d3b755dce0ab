"""What an API calls the fields that an error names: each client reads the words that it sent."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class FieldNames:
    """The words of one API."""

    form: str  # the form of an answer
    schema: str  # in it: a JSON schema
    parameters: str  # in a function: the schema of its arguments
    max_tokens: str  # the longest answer
    no_calls: str  # the choice that nothing is called
    one_call: str  # the field that bounds an answer to one call


PYTHON_NAMES = FieldNames(  # of `GenerationConfig`
    form="response_format",
    schema="json_schema.schema",
    parameters="parameters",
    max_tokens="max_new_tokens",
    no_calls="tool_choice: none",
    one_call="parallel_tool_calls",
)
