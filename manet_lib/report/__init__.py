"""Tables and figures, each beside what the paper prints where that is fair."""
