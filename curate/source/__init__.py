"""Read preference data of any layout into tables: `read` for rows, `partition.partition` for shards by prompt."""

from curate.source.dialects import DIALECTS, provides
from curate.source.files import fingerprint, missing_files
from curate.source.reader import read
from curate.source.rejects import Rejects
from curate.source.spec import Source, Sources, grain_of

__all__ = ["DIALECTS", "Rejects", "Source", "Sources", "fingerprint", "grain_of", "missing_files", "provides", "read"]
