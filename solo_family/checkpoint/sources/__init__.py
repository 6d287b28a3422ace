"""Where checkpoints come from: one small table of names per source."""

from ..source import Source
from . import adelaidet, backbones, huggingface, mask_former, mmdet3, official_solo, sparse_inst

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        *official_solo.SOURCES,
        *mmdet3.SOURCES,
        adelaidet.SOURCE,
        sparse_inst.SOURCE,
        mask_former.SOURCE,
        huggingface.SOURCE,
        *backbones.SOURCES,
    )
}
