// Matrix NMS (SOLOv2, NeurIPS 2020, section 2.2) for GPUs with tensor cores for single bits.
//
// Three kernels, one after another on a stream: `prepare_*` packs the masks and ranks them,
// `intersect_*` compares them, `decay_*` lowers their scores and sorts them. Sums are of integers,
// and a maximum or minimum is the same in any order, so that a result never depends on the order in
// which blocks run. No CUDA header is included, so that nvrtc needs no toolkit.

#include "matrix_nms_prepare.cuh"
#include "matrix_nms_intersect.cuh"
#include "matrix_nms_decay.cuh"
