"""What can go wrong with a lab, in words for people."""


class LabError(Exception):
    """A lab cannot do what was asked; the text says why and what to do."""
