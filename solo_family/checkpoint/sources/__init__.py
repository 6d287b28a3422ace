"""Where checkpoints come from: one small table of names per source."""

from ...methods.mask_former import checkpoint as mask_former
from ...methods.sparse_inst import checkpoint as sparse_inst
from ..source import Source
from . import adelaidet, backbones, huggingface, mmdet3, official_solo

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
