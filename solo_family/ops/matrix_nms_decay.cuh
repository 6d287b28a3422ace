// Multiply scores by the smallest ratio over better masks, and sort them: a block for 32 columns.

#pragma once
#include "matrix_nms_problem.cuh"

// See `decay_factors`.
template <bool GAUSSIAN>
__device__ __forceinline__ float decay_ratio(float iou, float held, float sigma) {
  if (GAUSSIAN) return expf(sigma * (held * held - iou * iou));
  return held < 1 ? (1 - iou) / (1 - held) : 1;
}

// A key that ascends by descending score, NaN first, and by place for equal scores (0 equals -0).
__device__ __forceinline__ unsigned long long sort_key(float score, int place) {
  const unsigned bits = __float_as_uint(score + 0.0f);
  const unsigned ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  const unsigned high = score != score ? 0 : ~ascending;
  return (unsigned long long)high << 32 | (unsigned)place;
}

// Sort bitonically; all threads of the block take part.
__device__ void sort(unsigned long long* keys, int size) {
  for (int run = 2; run <= size; run *= 2)
    for (int distance = run / 2; distance; distance /= 2) {
      __syncthreads();
      for (int pair = threadIdx.x; pair < size / 2; pair += DECAY_THREADS) {
        const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
        const unsigned long long a = keys[low], b = keys[high];
        if ((a > b) == !(low & run)) {
          keys[low] = b;
          keys[high] = a;
        }
      }
    }
  __syncthreads();
}

__device__ void sort_decayed(const Problem& p) {
  __shared__ unsigned long long keys[MAX_SORTED];
  // Other blocks wrote them, so they must not be read from this block's cache.
  const volatile float* unsorted = p.unsorted;
  int size = 2;
  while (size < p.count) size *= 2;
  for (int place = threadIdx.x; place < size; place += DECAY_THREADS)
    keys[place] = place < p.count ? sort_key(unsorted[place], place) : ~0ull;
  sort(keys, size);
  for (int i = threadIdx.x; i < p.count; i += DECAY_THREADS) {
    const unsigned place = (unsigned)keys[i];
    p.order[i] = p.index[place];
    p.decayed[i] = unsorted[place];
  }
}

template <bool GAUSSIAN>
__device__ __forceinline__ void decay(const Problem& p) {
  __shared__ int least[32];
  __shared__ bool last;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (warp == 0) least[lane] = __float_as_int(1.0f);
  __syncthreads();
  const int first_column = blockIdx.x * 32, column = first_column + lane;
  const bool exists = column < p.count;
  const int start = exists ? p.starts[column] : 0;
  float smallest = 1;
  const int end = min(first_column + 31, p.count - 1);
#pragma unroll 4
  for (int row = p.starts[first_column] + warp; row < end; row += DECAY_THREADS / 32)
    if (exists && row >= start && row < column) {
      const float held = __int_as_float(p.compensation[row]);
      const float iou = p.iou[(long long)row * p.count + column];
      smallest = fminf(smallest, decay_ratio<GAUSSIAN>(iou, held, p.sigma));
    }
  if (smallest < 1) atomicMin(&least[lane], __float_as_int(smallest));
  __syncthreads();
  if (warp == 0 && exists)
    p.unsorted[p.places[column]] = p.ranked_scores[column] * __int_as_float(least[lane]);
  if (!p.order) return;
  // The block that finishes last sees the results of all blocks.
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(p.finished, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  sort_decayed(p);
}

extern "C" __global__ void __launch_bounds__(DECAY_THREADS) decay_gaussian(const Problem p) {
  decay<true>(p);
}
extern "C" __global__ void __launch_bounds__(DECAY_THREADS) decay_linear(const Problem p) {
  decay<false>(p);
}
