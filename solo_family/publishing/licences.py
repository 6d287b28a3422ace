"""The licences that the HuggingFace Hub knows by name; it refuses a card that names another so.

Source: huggingface.co/docs/hub/repositories-licenses, without those of single language models.
"""

IDENTIFIERS = frozenset(
    {
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc"),
        *("unlicense", "wtfpl", "zlib", "cc0-1.0", "cc", "cc-by-2.0", "cc-by-3.0", "cc-by-4.0"),
        *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0"),
        *("cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0"),
        *("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "gpl", "gpl-2.0", "gpl-3.0", "lgpl", "lgpl-2.1"),
        *("lgpl-3.0", "agpl-3.0", "mpl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2"),
        *("ms-pl", "osl-3.0", "afl-3.0", "artistic-2.0", "bsl-1.0", "ncsa", "ofl-1.1", "odbl"),
        *("odc-by", "pddl", "openrail", "cdla-permissive-1.0", "cdla-permissive-2.0"),
        "cdla-sharing-1.0",
    }
)
