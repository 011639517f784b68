"""Subjects whose declaration is not theirs, or whose outputs are not."""

from accelsdk.errors import UnsupportedGraph


class Claiming:
    """A card with another datasheet than its own.

    Args:
        subject: The card.
        sheet: What it says.
        change: Applied to each output, given the problem; or None.
    """

    def __init__(self, subject, sheet, change=None):
        self.subject, self.datasheet, self.change = subject, sheet, change

    def run(self, problem, poison):
        outputs = self.subject.run(problem, poison)
        if self.change is None:
            return outputs
        return tuple(self.change(problem, out) for out in outputs)


class Refusing(Claiming):
    """A card that does not take what a rule says."""

    def run(self, problem, poison):
        if self.change(problem):
            raise UnsupportedGraph("not taken")
        return self.subject.run(problem, poison)
