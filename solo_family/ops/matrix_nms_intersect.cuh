// Compute the IoU of the pairs of one class: one block for each square of pairs.

#pragma once
#include "matrix_nms_problem.cuh"

#ifndef EMULATED
// Add the numbers of bits that 16 rows and 8 columns of 256 bits have in common.
__device__ __forceinline__ void multiply_bits(
    int (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

// Return four words from index `at`; 0 after the last word, which only a checked load may reach.
template <int VECTOR, bool CHECKED>
__device__ __forceinline__ uint4 load(const unsigned* row, int at, int width) {
  uint4 words = {0, 0, 0, 0};
  if (VECTOR == 4) {
    if (!CHECKED || at < width) words = *(const uint4*)(row + at);
  } else if (VECTOR == 2) {
    uint2 low = {0, 0}, high = {0, 0};
    if (!CHECKED || at < width) low = *(const uint2*)(row + at);
    if (!CHECKED || at + 2 < width) high = *(const uint2*)(row + at + 2);
    words = {low.x, low.y, high.x, high.y};
  } else {
    if (!CHECKED || at < width) words.x = row[at];
    if (!CHECKED || at + 1 < width) words.y = row[at + 1];
    if (!CHECKED || at + 2 < width) words.z = row[at + 2];
    if (!CHECKED || at + 3 < width) words.w = row[at + 3];
  }
  return words;
}

// Add 16 words of 32 rows and 32 columns. Which of the words an instruction takes at a time doesn't
// matter, as long as it is the same for rows and columns: each lane reads four neighbouring ones.
template <int VECTOR, bool CHECKED>
__device__ __forceinline__ void step(int (&sums)[2][4][4], const unsigned* const (&rows)[4],
                                     const unsigned* const (&columns)[4], int at, int width) {
  uint4 a[4], b[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    a[i] = load<VECTOR, CHECKED>(rows[i], at, width);
    b[i] = load<VECTOR, CHECKED>(columns[i], at, width);
  }
#pragma unroll
  for (int i = 0; i < 4; i += 2)
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      multiply_bits(sums[i / 2][j], a[i].x, a[i + 1].x, a[i].y, a[i + 1].y, b[j].x, b[j].y);
      multiply_bits(sums[i / 2][j], a[i].z, a[i + 1].z, a[i].w, a[i + 1].w, b[j].z, b[j].w);
    }
}

// Write to `part` what 32 rows and columns share in every `slices`-th step from `slice` on.
template <int VECTOR>
__device__ __forceinline__ void add_slice(
    const Problem& p, int top, int left, int slice, int slices, int (&part)[32][PITCH]) {
  const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  int sums[2][4][4] = {};
  const unsigned *rows[4], *columns[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Those after the last candidate read its words again, and their results are never used.
    const int row = min(top + i * 8 + group, p.count - 1);
    const int column = min(left + i * 8 + group, p.count - 1);
    rows[i] = p.words + (long long)p.rows[row] * p.width;
    columns[i] = p.words + (long long)p.rows[column] * p.width;
  }
  const int whole = p.width / 16;
#pragma unroll 2
  for (int k = slice; k < whole; k += slices)
    step<VECTOR, false>(sums, rows, columns, k * 16 + member * 4, p.width);
  if (p.width % 16 && whole % slices == slice)
    step<VECTOR, true>(sums, rows, columns, whole * 16 + member * 4, p.width);
#pragma unroll
  for (int i = 0; i < 2; ++i)
#pragma unroll
    for (int j = 0; j < 4; ++j)
#pragma unroll
      for (int half = 0; half < 2; ++half)
        *(int2*)&part[i * 16 + half * 8 + group][j * 8 + member * 2] =
            int2{sums[i][j][half * 2], sums[i][j][half * 2 + 1]};
}

// A block compares GROUP x GROUP squares of 32 x 32 pairs; the warps of a square share its words.
template <int GROUP, int VECTOR>
__device__ __forceinline__ void intersect(const Problem& p) {
  constexpr int TILE = 32 * GROUP, SLICES = WARPS / (GROUP * GROUP);
  __shared__ __align__(16) int parts[WARPS][32][PITCH];
  const int top = blockIdx.y * TILE, left = blockIdx.x * TILE;
  // The first column has the first class of all, which starts after the last row: none is shared.
  if (left < top || p.starts[left] >= top + TILE) return;
  const int warp = threadIdx.x / 32, square = warp / SLICES;
  const int square_top = top + square / GROUP * 32, square_left = left + square % GROUP * 32;
  if (square_top < square_left + 32 && square_left < p.count)
    add_slice<VECTOR>(p, square_top, square_left, warp % SLICES, SLICES, parts[warp]);
  __syncthreads();
  const int x = threadIdx.x % TILE, column = left + x;
  if (column >= p.count) return;
  const int start = p.starts[column], area = p.areas[column];
  float greatest = 0;
#pragma unroll 4
  for (int y = threadIdx.x / TILE; y < TILE; y += THREADS / TILE) {
    const int row = top + y, first = (y / 32 * GROUP + x / 32) * SLICES;
    if (row < start || row >= column) continue;
    int common = 0;
#pragma unroll
    for (int slice = 0; slice < SLICES; ++slice) common += parts[first + slice][y % 32][x % 32];
    const float iou = (float)common / (float)max(p.areas[row] + area - common, 1);
    p.iou[(long long)row * p.count + column] = iou;
    greatest = fmaxf(greatest, iou);
  }
  // Floats that are not negative have the order of their bits as integers.
  if (greatest > 0) atomicMax(&p.compensation[column], __float_as_int(greatest));
}

#define INTERSECT(GROUP, VECTOR)                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS, 2) intersect_##GROUP##_##VECTOR(      \
      const Problem p) {                                                                     \
    intersect<GROUP, VECTOR>(p);                                                             \
  }
INTERSECT(1, 1)
INTERSECT(1, 2)
INTERSECT(1, 4)
INTERSECT(2, 1)
INTERSECT(2, 2)
INTERSECT(2, 4)
