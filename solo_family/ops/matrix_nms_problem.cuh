// The arguments of the kernels of matrix NMS.
//
// Shape letters: N masks; n the best of them that take part; W words of a mask. "Place" is a
// candidate's place by score alone, "rank" that by class first and score second, so that the
// candidates of a class are neighbours.

#pragma once

// Threads of a block that prepares or intersects, and of one that decays.
#define THREADS 256
#define WARPS (THREADS / 32)
#define DECAY_THREADS 1024
// Number of candidates that the last block of `decay_*` can sort; equals `_MAX_SORTED`.
#define MAX_SORTED 4096
// Words between rows of a warp's sums in shared memory, so that stores of pairs don't conflict.
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
