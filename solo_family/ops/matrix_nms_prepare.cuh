// Pack, measure and rank the masks: one block for each candidate.

#pragma once
#include "matrix_nms_problem.cuh"

struct Float16 { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
struct Words {};

#ifndef EMULATED
__device__ __forceinline__ float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
#endif

__device__ __forceinline__ bool inside(unsigned char pixel, float) { return pixel != 0; }
__device__ __forceinline__ bool inside(float pixel, float threshold) { return pixel > threshold; }
__device__ __forceinline__ bool inside(Float16 pixel, float threshold) {
  return half_to_float(pixel.bits) > threshold;
}
__device__ __forceinline__ bool inside(BFloat16 pixel, float threshold) {
  return __uint_as_float((unsigned)pixel.bits << 16) > threshold;
}

// Return this thread's part of the area of packed masks.
__device__ int measure(const Problem& p, const Words*, long long row, int) {
  const unsigned* words = p.words + row * p.width;
  int area = 0;
#pragma unroll 4
  for (int word = threadIdx.x; word < p.width; word += THREADS) area += __popc(words[word]);
  return area;
}

// Pack a mask as row `self` of the words, 32 words at a time in each warp.
template <typename Pixel>
__device__ int measure(const Problem& p, const Pixel* masks, long long row, int self) {
  const Pixel* mask = masks + row * p.pixels;
  unsigned* words = p.words + (long long)self * p.width;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int area = 0;
  for (int first = warp * 32; first < p.width; first += WARPS * 32) {
    unsigned mine = 0;
#pragma unroll 8
    for (int word = 0; word < 32; ++word) {
      const long long pixel = (long long)(first + word) * 32 + lane;
      const bool set = pixel < p.pixels && inside(mask[pixel], p.threshold);
      const unsigned bits = __ballot_sync(EVERY_LANE, set);
      if (lane == word) mine = bits;
    }
    if (first + lane < p.width) words[first + lane] = mine;
    area += __popc(mine);
  }
  return area;
}

// Return four bools, of a byte each, as the lowest four bits.
__device__ __forceinline__ unsigned four_bits(unsigned bools) {
  return (bools & 0x01010101u) * 0x10204080u >> 28;
}
__device__ __forceinline__ unsigned sixteen_bits(uint4 bools) {
  return four_bits(bools.x) | four_bits(bools.y) << 4 | four_bits(bools.z) << 8 |
         four_bits(bools.w) << 12;
}

// Pack bool masks that can be read 16 at a time, one word at a time in each thread.
__device__ int measure_aligned(const Problem& p, const unsigned char* mask, int self) {
  unsigned* words = p.words + (long long)self * p.width;
  int area = 0;
#pragma unroll 2
  for (int word = threadIdx.x; word < p.width; word += THREADS) {
    const long long pixel = (long long)word * 32;
    unsigned bits = 0;
    if (pixel + 32 <= p.pixels) {
      const uint4* bools = (const uint4*)(mask + pixel);
      bits = sixteen_bits(bools[0]) | sixteen_bits(bools[1]) << 16;
    } else {
      for (int bit = 0; pixel + bit < p.pixels; ++bit) bits |= (unsigned)mask[pixel + bit] << bit;
    }
    words[word] = bits;
    area += __popc(bits);
  }
  return area;
}
__device__ int measure(const Problem& p, const bool* masks, long long row, int self) {
  const unsigned char* mask = (const unsigned char*)masks + row * p.pixels;
  if ((unsigned long long)mask % 16 == 0) return measure_aligned(p, mask, self);
  return measure(p, (const unsigned char*)masks, row, self);
}

// Return whether a score comes before another: NaN first, and equal scores by candidate.
__device__ __forceinline__ bool precedes(float a, int a_index, float b, int b_index) {
  const bool a_nan = a != a, b_nan = b != b;
  if (a > b || (a_nan && !b_nan)) return true;
  if (b > a || (b_nan && !a_nan)) return false;
  return a_index < b_index;
}

__device__ __forceinline__ void add_to(int* sum, int value) {
  const int total = __reduce_add_sync(EVERY_LANE, value);
  if (threadIdx.x % 32 == 0) atomicAdd(sum, total);
}

template <typename Source>
__device__ __forceinline__ void prepare(const Problem& p, const Source* masks, bool packed) {
  __shared__ int sums[4];
  if (threadIdx.x < 4) sums[threadIdx.x] = 0;
  __syncthreads();
  const int self = blockIdx.x;
  const long long row = p.picks ? p.picks[self] : self;
  const long long label = p.labels ? p.labels[row] : 0;
  const float score = p.scores[row];
  int earlier = 0, lower_class = 0, better = 0;
  for (int other = threadIdx.x; other < p.count; other += THREADS) {
    const long long other_row = p.picks ? p.picks[other] : other;
    const long long other_label = p.labels ? p.labels[other_row] : 0;
    const bool first = precedes(p.scores[other_row], other, score, self);
    earlier += first;
    lower_class += other_label < label;
    better += first && other_label == label;
  }
  add_to(&sums[0], measure(p, masks, row, self));
  add_to(&sums[1], earlier);
  add_to(&sums[2], lower_class);
  add_to(&sums[3], better);
  __syncthreads();
  if (threadIdx.x == 0) {
    const int place = sums[1], start = sums[2], rank = sums[2] + sums[3];
    p.index[place] = row;
    p.rows[rank] = packed ? (int)row : self;
    p.starts[rank] = start;
    p.places[rank] = place;
    p.areas[rank] = sums[0];
    p.ranked_scores[rank] = score;
    p.compensation[rank] = 0;
    if (self == 0) *p.finished = 0;
  }
}

#define PREPARE(NAME, SOURCE, PACKED)                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS) prepare_##NAME(const Problem p) { \
    prepare(p, (const SOURCE*)p.masks, PACKED);                                          \
  }
PREPARE(words, Words, true)
PREPARE(bool, bool, false)
PREPARE(float16, Float16, false)
PREPARE(bfloat16, BFloat16, false)
PREPARE(float32, float, false)
