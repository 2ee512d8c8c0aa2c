"""Write training files from a version, refusing what would lose or falsify something."""

from curate.export.exporting import Exported, export
from curate.export.formats import FORMATS

__all__ = ["FORMATS", "Exported", "export"]
