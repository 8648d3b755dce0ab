"""The held-out questions of `deploy evaluate` with their answers, as the decoder reads them."""

from collections.abc import Iterator

from PIL import Image

from deployer.config.schema import DeployConfig
from deployer.errors import ConfigError
from deployer.generation.open_model import OpenedModel
from deployer.pocket_vl.evaluate import conversation
from deployer.pocket_vl.fonts import FontBook
from deployer.pocket_vl.held_out import held_out_questions
from deployer.pocket_vl.painter import paint
from deployer.prompt.messages import Message
from deployer.quantize.prompts import answered_prompts
from engines.quant.prompt_steps import CalibrationPrompt


def question_prompts(
    config: DeployConfig, model: OpenedModel, total: int, *, first_picture: int
) -> list[CalibrationPrompt]:
    """Return so many questions from a picture on, answers included.

    Raises ConfigError for a model that reads text only.
    """
    if model.spec.vision is None:
        raise ConfigError(
            [f"quantize.questions={total}: are about pictures, model `{config.model.name}` reads text only"]
        )
    return answered_prompts(config, model, list(_conversations(total, first_picture)))


def _conversations(total: int, first_picture: int) -> Iterator[list[Message]]:
    book = FontBook.system()
    pictures: dict[int, Image.Image] = {}
    for question in held_out_questions(total, book, first_picture=first_picture):
        if question.scene is not None and question.scene_number not in pictures:
            pictures = {
                question.scene_number: paint(question.scene, book)
            }  # questions come picture by picture
        asked = conversation(question, pictures.get(question.scene_number))
        yield [*asked, Message.of("assistant", question.turn.answer)]
