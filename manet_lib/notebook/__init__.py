"""What the notebooks share: their settings, and what their cells call to show something or to stop."""

from manet_lib.notebook.cells import command, folded, need, say_done, show_table, source, takes, used
from manet_lib.notebook.parameters import settings

__all__ = ["command", "folded", "need", "say_done", "settings", "show_table", "source", "takes", "used"]
