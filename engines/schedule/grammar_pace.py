"""Whether grammars are asked for tokens in a step: while what they bring is worth what all wait for it.

A step with tokens of grammars begins once the last tokens are here and what may follow each is known, work of
the host that is otherwise done while the device computes. It is the longer in shares of a step the smaller
the model is and the more grammars are asked, so it is priced against what a step of this engine takes.

What grammars bring is counted too: a share of it for each sequence of the step, less the price, goes into a
purse. Once that is empty nobody is asked for some steps, and for twice as many where the next time brings no
more. All of it follows from tokens and from one number that ranks have agreed on, so they go on agreeing.
"""

from dataclasses import dataclass

# What is counted on before it is known: tokens that a grammar proposes, and the share of them that is right.
# Answers in forms of an invoice and a receipt, kernels/LOG.md, 2026-11-27.
PROPOSED, RIGHT = 1.4, 0.9
WORTH = 1.1  # times its price: what that must be for grammars to be asked
PURSE = 1.0  # tokens a sequence: the most that it holds
AT_FIRST = 0.5  # and what it holds at first and after a rest
FIRST_REST, LONGEST_REST = 4, 128  # steps


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPrices:
    """What a step with tokens of grammars takes longer. One H200 and its host, kernels/LOG.md, 2026-11-27."""

    step_us: (
        float | None
    )  # one without; None: the host does not work beside the device, so nothing waits for it
    WAIT_US, ASKED_US, TOKEN_US = 200.0, 60.0, 170.0
    ROW = 0.012

    def of(self, *, num_asked: int, num_tokens: float) -> float:
        """Return it in steps, for grammars that are asked and tokens of theirs."""
        wait_us = self.WAIT_US + self.ASKED_US * num_asked + self.TOKEN_US * num_tokens
        waits = 0.0 if self.step_us is None else wait_us / self.step_us
        return waits + self.ROW * num_tokens


ALONE = StepPrices(step_us=None)


class GrammarPace:
    """What grammars brought of late, and for how many steps none is asked."""

    def __init__(self, prices: StepPrices) -> None:
        self._prices = prices
        self._purse = AT_FIRST
        self._next_rest = FIRST_REST
        self._rest = 0  # steps left

    @property
    def is_resting(self) -> bool:
        """Whether no grammar is asked in the next step."""
        return self._rest > 0

    def pays(self, num_sequences: int, *, num_asked: int, most: int) -> bool:
        """Tell whether a step of these is likely faster with what grammars propose, `most` tokens at most."""
        num_tokens = min(PROPOSED * num_asked, most)
        price = self._prices.of(num_asked=num_asked, num_tokens=num_tokens)
        return num_tokens * RIGHT > num_sequences * price * WORTH

    def pass_by(self) -> None:
        """Take that a step decodes in which no grammar is asked."""
        self._rest = max(self._rest - 1, 0)

    def learn(self, num_sequences: int, *, num_asked: int, proposed: int, right: int) -> None:
        """Take what a step brought for which grammars were asked."""
        price = self._prices.of(num_asked=num_asked, num_tokens=proposed)
        self._purse = min(self._purse + right / num_sequences - price, PURSE)
        if self._purse < 0:
            self._purse = AT_FIRST
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, LONGEST_REST)
        elif self._purse == PURSE:
            self._next_rest = FIRST_REST
