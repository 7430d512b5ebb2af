// What planes consist of, and what the processor computes with them: floats or, with WIRINGS_HALF, halves.
//
// Where the processor multiplies halves, so do the kernels. Elsewhere planes are halves in memory, which turn into
// floats on their way to the registers and back.
#pragma once

#if defined(__AVX512F__)
constexpr int FLOAT_LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int FLOAT_LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int FLOAT_LANES = 4, REGISTERS = 32;
#else
constexpr int FLOAT_LANES = 4, REGISTERS = 16;
#endif

// Number: of planes in memory. Lane: of planes in registers, of which a vector has LANES. WIRINGS_HALF_LANES is given
// by tests alone: it lets the compiler replace the arithmetic that the processor lacks.
#if defined(WIRINGS_HALF)

#if defined(__aarch64__)
typedef __fp16 Half;  // g++ has _Float16 here from version 13 on only
#elif defined(__FLT16_MAX__)
typedef _Float16 Half;
#else
#error "the compiler has no numbers of half precision (_Float16): g++ has them from version 12 on, clang++ from 15 on"
#endif

#if !defined(WIRINGS_HALF_LANES)
#if defined(__AVX512FP16__)
#define WIRINGS_HALF_LANES 32
#elif defined(__aarch64__) && defined(__ARM_FEATURE_FP16_VECTOR_ARITHMETIC)
#define WIRINGS_HALF_LANES 8
#else
#define WIRINGS_HALF_LANES 0
#endif
#endif

typedef Half Number;
#if WIRINGS_HALF_LANES
typedef Half Lane;
constexpr int LANES = WIRINGS_HALF_LANES;
#else
typedef float Lane;
constexpr int LANES = FLOAT_LANES;
#endif

#else
#define WIRINGS_HALF_LANES 0
typedef float Number;
typedef float Lane;
constexpr int LANES = FLOAT_LANES;
#endif

constexpr bool HALF = sizeof(Number) == 2;
constexpr int FEWEST_LANES = 16 / sizeof(Lane);  // of a vector of 16 bytes
