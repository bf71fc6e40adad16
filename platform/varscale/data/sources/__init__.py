"""Where labelled images come from: what a source lists, and its encoded bytes by range of rows.

Kinds, on local paths and URLs alike::

    FOLDER/[train|val]/<class>/…     class folders; without train/ and val/, validation is drawn by key
    ARCHIVE.tar                      a tar of such a folder, perhaps below one top folder; never unpacked
    FOLDER/*.tar                     ILSVRC: a tar of class tars, a tar of validation images, their ground truth
    FOLDER/*.parquet                 Hugging Face style tables: image: struct<bytes, path>, label: integer
    FOLDER/manifest.json             image shards that were ingested before
"""

from __future__ import annotations

from varscale.data.sources.listing import Source
from varscale.data.sources.opening import open_source

__all__ = ["Source", "open_source"]
