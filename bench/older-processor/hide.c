/*
 * Lets ONNX Runtime believe that the processor has AVX2 and nothing newer: build.sh puts an instruction that the processor
 * refuses (ud2) in place of each cpuid in a copy of its library; this answers in cpuid's place, without AVX-512, VNNI and AMX,
 * and hands that copy to whoever opens the library. Everything else in the process sees the processor as it is.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#define BITS(...) (~bits((const int[]){__VA_ARGS__, -1}))

static uintptr_t first, last;

static uint32_t bits(const int *places) {
  uint32_t all = 0;
  for (; *places >= 0; places++) all |= 1u << *places;
  return all;
}

static int find_library(struct dl_phdr_info *library, size_t size, void *path) {
  (void)size;
  if (!library->dlpi_name || strcmp(library->dlpi_name, path)) return 0;
  for (int i = 0; i < library->dlpi_phnum; i++) {
    uintptr_t end = library->dlpi_addr + library->dlpi_phdr[i].p_vaddr + library->dlpi_phdr[i].p_memsz;
    if (library->dlpi_phdr[i].p_type == PT_LOAD && end > last) last = end;
  }
  return first = library->dlpi_addr, 1;
}

static void answer(int signal_number, siginfo_t *info, void *given) {
  (void)info;
  greg_t *registers = ((ucontext_t *)given)->uc_mcontext.gregs;
  uintptr_t at = registers[REG_RIP];
  if (!last) dl_iterate_phdr(find_library, getenv("OLDER_PROCESSOR_LIBRARY"));
  if (at < first || at >= last) {
    signal(signal_number, SIG_DFL);
    return;
  }
  uint32_t leaf = registers[REG_RAX], part = registers[REG_RCX], a, b, c, d;
  __cpuid_count(leaf, part, a, b, c, d);
  if (leaf == 7 && part == 0) {
    b &= BITS(16, 17, 21, 26, 27, 28, 30, 31); /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL */
    c &= BITS(1, 6, 11, 12, 14);               /* VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ */
    d &= BITS(2, 3, 8, 22, 23, 24, 25);        /* 4VNNIW, 4FMAPS, VP2INTERSECT; AMX and FP16 */
  }
  if (leaf == 7 && part == 1) {
    a &= BITS(4, 5, 21, 23); /* AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA */
    d &= BITS(4, 5, 8, 10);  /* AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16 */
  }
  registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
  registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void install(void) {
  struct sigaction action = {.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER};
  sigaction(SIGILL, &action, NULL);
}

void *dlopen(const char *path, int flags) {
  void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
  return real(path && strstr(path, "libonnxruntime.so.1") ? getenv("OLDER_PROCESSOR_LIBRARY") : path, flags);
}
