// Matrix NMS (SOLOv2, arXiv 2003.10152, section 3.3) for GPUs with tensor cores for single bits.
//
// Three kernels, one after another on a stream: `prepare_*` packs the masks and ranks them,
// `intersect_*` compares them, `decay_*` lowers their scores and sorts them. Sums are of integers,
// and a maximum or minimum is the same in any order, so that a result never depends on the order in
// which blocks run. Nothing is included, so that nvrtc needs no header.
//
// Words: n candidates; W words of a mask; "place" is a candidate's place by score alone, "rank" that
// by class first and score second, so that the candidates of a class are neighbours.

// Threads of a block that prepares or intersects, and of one that decays.
#define THREADS 256
#define WARPS (THREADS / 32)
#define DECAY_THREADS 1024
// Candidates that the last block of `decay_*` can sort; as many as `_MAX_SORTED` says.
#define MAX_SORTED 4096
// Words between rows of a warp's sums in shared memory: without conflicts for the stores of pairs.
#define PITCH 40
#define EVERY_LANE 0xffffffffu

struct Problem {
  const void* masks;        // [N, pixels] of bool, float16, bfloat16 or float32
  const long long* picks;   // [n], which masks take part, by place; null for all in their order
  const long long* labels;  // [N]; null for one class
  const float* scores;      // [N]
  unsigned* words;          // [N or n, W], packed masks: given, or made by `prepare_*`
  float* iou;               // [n, n] by rank: written where the row is a better one of the class
  long long* index;         // [n] by place, index of the candidate among the N masks
  float* unsorted;          // [n] by place, decayed scores
  long long* order;         // [n], `index` by decayed score; null to leave sorting to the host
  float* decayed;           // [n], descending
  int* rows;                // [n] by rank, row of `words`
  int* starts;              // [n] by rank, rank of the best of its class
  int* places;              // [n] by rank
  int* areas;               // [n] by rank, in pixels
  float* ranked_scores;     // [n] by rank
  int* compensation;        // [n] by rank, greatest IoU with a better mask, as bits of a float
  unsigned* finished;       // [1], blocks of `decay_*` that are done
  long long pixels;
  int count;  // n
  int width;  // W
  float threshold;
  float sigma;
};

struct Float16 { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
struct Words {};

#ifndef EMULATED
__device__ __forceinline__ float half_to_float(unsigned short bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

// Adds the numbers of bits that 16 rows and 8 columns of 256 bits have in common.
__device__ __forceinline__ void multiply_bits(
    int (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc "
      "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
#endif

// ---- prepare: pack, measure and rank; one block for each candidate

__device__ __forceinline__ bool inside(unsigned char pixel, float) { return pixel != 0; }
__device__ __forceinline__ bool inside(float pixel, float threshold) { return pixel > threshold; }
__device__ __forceinline__ bool inside(Float16 pixel, float threshold) {
  return half_to_float(pixel.bits) > threshold;
}
__device__ __forceinline__ bool inside(BFloat16 pixel, float threshold) {
  return __uint_as_float((unsigned)pixel.bits << 16) > threshold;
}

// This thread's part of the area of packed masks.
__device__ int measure(const Problem& p, const Words*, long long row, int) {
  const unsigned* words = p.words + row * p.width;
  int area = 0;
#pragma unroll 4
  for (int word = threadIdx.x; word < p.width; word += THREADS) area += __popc(words[word]);
  return area;
}

// Packs a mask as row `self` of the words, a warp 32 words at a time; this thread's part of its area.
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

// Four bools, of a byte each, as the lowest four bits.
__device__ __forceinline__ unsigned four_bits(unsigned bools) {
  return (bools & 0x01010101u) * 0x10204080u >> 28;
}
__device__ __forceinline__ unsigned sixteen_bits(uint4 bools) {
  return four_bits(bools.x) | four_bits(bools.y) << 4 | four_bits(bools.z) << 8 |
         four_bits(bools.w) << 12;
}

// The same for bool masks that can be read 16 at a time: a word for each thread.
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

// Whether a score comes before another one: NaN first, and earlier candidates of equal scores.
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

// ---- intersect: IoU of the pairs of one class; one block for each square of pairs

// Four words from place `at`; 0 after the last word, which only a checked load may reach.
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

// Adds 16 words of 32 rows and 32 columns. Which of the words an instruction takes at a time doesn't
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

// What 32 rows and 32 columns have in common in every `slices`-th step from `slice` on, to `part`.
template <int VECTOR>
__device__ __forceinline__ void add_slice(
    const Problem& p, int top, int left, int slice, int slices, int (&part)[32][PITCH]) {
  const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  int sums[2][4][4] = {};
  const unsigned *rows[4], *columns[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    // Those after the last candidate are read as if they were the last, and never looked at.
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
  // The first column's class is the first of them, and starts after the last row: none is shared.
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
  // Floats that are not negative are ordered as their bits are.
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

// ---- decay: the least ratio over better masks, times the score; one block for 32 columns

// See `decay_factors`.
template <bool GAUSSIAN>
__device__ __forceinline__ float decay_ratio(float iou, float held, float sigma) {
  if (GAUSSIAN) return expf(sigma * (held * held - iou * iou));
  return held < 1 ? (1 - iou) / (1 - held) : 1;
}

// Ascends by descending score, NaN first, and by place where scores are equal, as both zeros are.
__device__ __forceinline__ unsigned long long sort_key(float score, int place) {
  const unsigned bits = __float_as_uint(score + 0.0f);
  const unsigned ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
  const unsigned high = score != score ? 0 : ~ascending;
  return (unsigned long long)high << 32 | (unsigned)place;
}

// Bitonic sort; all threads of the block take part.
__device__ void sort(unsigned long long* keys, int size) {
  for (int run = 2; run <= size; run *= 2)
    for (int distance = run / 2; distance; distance /= 2) {
      __syncthreads();
      for (int pair = threadIdx.x; pair < size / 2; pair += DECAY_THREADS) {
        const int low = pair / distance * distance * 2 + pair % distance, high = low + distance;
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
  // Other blocks wrote them: they mustn't come from this one's cache.
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
  // The block that finishes last sees what all have written.
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
