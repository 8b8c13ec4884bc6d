/*
 * Products of bytes that a core can add up in a second, in AVX2's two ways: sums of two in 16 bits first (u8 x s8, exact for
 * weights that allow for it), or each widened to 16 bits before (u8 x u8, exact for any). Without memory:
 *
 *   gcc -O2 -mavx2 -o /tmp/peak bench/older-processor/peak.c && /tmp/peak
 */
#include <immintrin.h>
#include <stdio.h>
#include <time.h>

#define STEPS 100000000L
#define KEEP(x) __asm__ volatile("" : "+x"(x))

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec + now.tv_nsec * 1e-9;
}

int main(void) {
  __m256i weights = _mm256_set1_epi8(3), bytes = _mm256_set1_epi8(5), ones = _mm256_set1_epi16(1);
  __m256i sums[8] = {0};
  double start = seconds();
  for (long i = 0; i < STEPS; i++) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
      KEEP(bytes);
      sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, weights), ones));
      KEEP(sums[k]);
    }
  }
  printf("in pairs: %.0f billion products a second and core\n", STEPS * 8 * 32 / (seconds() - start) / 1e9);
  start = seconds();
  for (long i = 0; i < STEPS; i++) {
#pragma GCC unroll 8
    for (int k = 0; k < 8; k++) {
      KEEP(bytes);
      sums[k] = _mm256_add_epi32(sums[k], _mm256_madd_epi16(bytes, weights));
      KEEP(sums[k]);
    }
  }
  printf("widened:  %.0f billion products a second and core\n", STEPS * 8 * 16 / (seconds() - start) / 1e9);
  return 0;
}
