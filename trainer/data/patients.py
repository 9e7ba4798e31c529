"""Which patient an image shows, where its file name tells."""

from __future__ import annotations

import re
from pathlib import PurePath

__all__ = ["patient_of"]

# patient00123_study1 (CheXpert), person7_virus_3 (Kermany et al. 2018), sub-01_view2 (BIDS), PAT-0012-L
_NAMED = re.compile(r"(?:^|[^a-z0-9])(patient|person|subject|sub|pat|pt|case)[-_ ]?(\d+)")
# p10000032 (MIMIC-CXR): a bare "p" only before a long number, for "p1" is as well a page or a part
_MIMIC = re.compile(r"(?:^|[^a-z0-9])(p)(\d{6,})(?![a-z0-9])")
# 00000013_005 (NIH ChestX-ray14): patient, then image
_NUMBERS = re.compile(r"^()(\d+)_\d+(?!\d)")


def patient_of(path: PurePath) -> str | None:
    """The patient that ``path`` (relative to its class folder) names, or None where it does not tell.

    Looked for in every folder, then in the file name: a number after ``patient``, ``person``, ``subject``,
    ``sub``, ``pat``, ``pt`` or ``case`` (``patient00123_study1``, ``PAT-0012-L``), or ``p`` and six digits or
    more. Failing that, a file name of two numbers, ``<patient>_<image>``. A single running number is no
    patient. The answer only groups images: it is compared with others, never shown.
    """
    parts = [part.lower() for part in (*path.parent.parts, path.stem)]
    for pattern, places in ((_NAMED, parts), (_MIMIC, parts), (_NUMBERS, parts[-1:])):
        for place in places:
            if match := pattern.search(place):
                return match.group(1) + match.group(2)
    return None
