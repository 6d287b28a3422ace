// Runs kernels written in CUDA C on a CPU: compiled as C++ together with their source, CUDA_SOURCE.
//
// A thread is a fiber, which gives way where it waits for others: at a barrier, and wherever the
// lanes of a warp exchange something. Which of them goes on, and which block comes next, is drawn
// at random: a barrier that is missing shows. Blocks run one after another.

#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#define EMULATED
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(bytes) __attribute__((aligned(bytes)))

using std::max;
using std::min;
struct Index { unsigned x, y; };
struct int2 { int x, y; };
struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

static Index blockIdx, gridDim, threadIdx;

// ---- fibers

// Threads that wait for each other: a block, or a warp.
struct Group { int alive = 0, arrived = 0, meetings = 0; };
struct Fiber {
  ucontext_t context;
  std::vector<char> stack = std::vector<char>(64 * 1024);
  bool alive = false;
  Group* waits_in = nullptr;
  int since = 0;
};
static std::vector<Fiber> fibers;
static std::vector<Group> warps;
static Group block;
static ucontext_t scheduler;

static void leave(Group& group) {
  if (--group.alive == group.arrived && group.arrived) group.arrived = 0, ++group.meetings;
}
static void meet(Group& group) {
  const unsigned self = threadIdx.x;
  Fiber& fiber = fibers[self];
  fiber.waits_in = &group, fiber.since = group.meetings;
  if (++group.arrived == group.alive) group.arrived = 0, ++group.meetings;
  swapcontext(&fiber.context, &scheduler);
  threadIdx.x = self;
}
static Group& warp() { return warps[threadIdx.x / 32]; }

static void __syncthreads() { meet(block); }
static void __threadfence() {}

// ---- what lanes exchange

struct Message { unsigned words[6]; };
static std::vector<Message> messages;

// What every lane of this one's warp has sent.
template <typename Read>
static void exchange(const Message& message, Read read) {
  messages[threadIdx.x] = message;
  meet(warp());
  read(&messages[threadIdx.x / 32 * 32]);
  meet(warp());
}
static unsigned __ballot_sync(unsigned, bool set) {
  unsigned bits = 0;
  exchange({{set}}, [&](const Message* lanes) {
    for (int lane = 0; lane < 32; ++lane) bits |= lanes[lane].words[0] << lane;
  });
  return bits;
}
static int __reduce_add_sync(unsigned, int value) {
  int sum = 0;
  exchange({{(unsigned)value}}, [&](const Message* lanes) {
    for (int lane = 0; lane < 32; ++lane) sum += (int)lanes[lane].words[0];
  });
  return sum;
}
static int __popc(unsigned bits) { return __builtin_popcount(bits); }

// PTX ISA, "Matrix fragments for mma.m16n8k256": lane 4 g + t holds 32 bits of the rows g and g + 8,
// from 32 t on and from 128 + 32 t on, and the same of column g; of the sums the columns 2 t and
// 2 t + 1 of its rows.
static void multiply_bits(int (&sums)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3,
                          unsigned b0, unsigned b1) {
  const int lane = threadIdx.x % 32, group = lane / 4, member = lane % 4;
  exchange({{a0, a1, a2, a3, b0, b1}}, [&](const Message* lanes) {
    for (int e = 0; e < 4; ++e) {
      const int row = group + e / 2 * 8, column = member * 2 + e % 2;
      for (int k = 0; k < 256; k += 32) {
        const unsigned* of_row = lanes[row % 8 * 4 + k / 32 % 4].words;
        const unsigned* of_column = lanes[column * 4 + k / 32 % 4].words;
        sums[e] += __popc(of_row[row / 8 + k / 128 * 2] & of_column[4 + k / 128]);
      }
    }
  });
}

// ---- numbers

template <typename To, typename From>
static To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}
static float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
static unsigned __float_as_uint(float value) { return same_bits<unsigned>(value); }
static float __int_as_float(int bits) { return same_bits<float>(bits); }
static int __float_as_int(float value) { return same_bits<int>(value); }
static float half_to_float(unsigned short bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  float value = exponent ? std::ldexp(1024.0f + fraction, exponent - 25) : std::ldexp((float)fraction, -24);
  if (exponent == 31) value = fraction ? NAN : INFINITY;
  return bits & 0x8000 ? -value : value;
}

template <typename Number>
static Number atomicAdd(Number* at, Number value) {
  const Number before = *at;
  *at += value;
  return before;
}
static int atomicMax(int* at, int value) {
  const int before = *at;
  *at = max(before, value);
  return before;
}
static int atomicMin(int* at, int value) {
  const int before = *at;
  *at = min(before, value);
  return before;
}

#include CUDA_SOURCE

// ---- running a kernel

static void (*kernel)(const Problem);
static const Problem* problem;

static void run_thread() {
  const unsigned self = threadIdx.x;
  kernel(*problem);
  fibers[self].alive = false;
  leave(warps[self / 32]);
  leave(block);
}

// Whether every thread came to its end; false where some wait for each other in vain.
static bool run_block(int threads, std::mt19937& random) {
  block = {threads};
  warps.assign(threads / 32, {32});
  for (int i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    fiber.alive = true, fiber.waits_in = nullptr;
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.data();
    fiber.context.uc_stack.ss_size = fiber.stack.size();
    fiber.context.uc_link = &scheduler;
    makecontext(&fiber.context, run_thread, 0);
  }
  std::vector<unsigned> order(threads);
  std::iota(order.begin(), order.end(), 0);
  for (bool progress = true; progress;) {
    progress = false;
    std::shuffle(order.begin(), order.end(), random);
    for (unsigned i : order) {
      Fiber& fiber = fibers[i];
      if (!fiber.alive || (fiber.waits_in && fiber.waits_in->meetings == fiber.since)) continue;
      progress = true, fiber.waits_in = nullptr, threadIdx.x = i;
      swapcontext(&scheduler, &fiber.context);
    }
  }
  return block.alive == 0;
}

extern "C" bool emulate(void (*function)(const Problem), unsigned grid_x, unsigned grid_y,
                        int threads, const Problem* argument, unsigned seed) {
  std::mt19937 random(seed);
  kernel = function, problem = argument, gridDim = {grid_x, grid_y};
  fibers.resize(threads), messages.resize(threads);
  std::vector<unsigned> blocks(grid_x * grid_y);
  std::iota(blocks.begin(), blocks.end(), 0);
  std::shuffle(blocks.begin(), blocks.end(), random);
  for (unsigned i : blocks) {
    blockIdx = {i % grid_x, i / grid_x};
    if (!run_block(threads, random)) return false;
  }
  return true;
}
