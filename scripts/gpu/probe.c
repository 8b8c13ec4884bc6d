/*
 * Where does CUDA break? Driver, runtime, memory, cuBLAS, a captured graph, one after the other, without ONNX Runtime and
 * without Node. Each line says what was tried and what came of it; the first that fails is the place to look.
 *
 *   gcc -O1 probe.c -o probe -ldl && ./probe [libcudart.so.13 [libcublasLt.so.13 [libcublas.so.13]]]
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE 64
#define BYTES (SIDE * SIDE * 2) /* bfloat16 */
#define BFLOAT16 14             /* CUDA_R_16BF */
#define FLOAT_SUMS 68           /* CUBLAS_COMPUTE_32F */

static void *runtime, *blas;
static int failed;

static void *find(void *library, const char *name) {
  void *function = library ? dlsym(library, name) : NULL;
  if (!function) {
    printf("FAIL %s: not found\n", name);
    exit(1);
  }
  return function;
}

static const char *text(int status) {
  const char *(*describe)(int) = runtime ? (const char *(*)(int))dlsym(runtime, "cudaGetErrorString") : NULL;
  return describe ? describe(status) : "";
}

static int check(const char *what, int status) {
  printf("%s %s: %d %s\n", status ? "FAIL" : "ok  ", what, status, status ? text(status) : "");
  fflush(stdout);
  failed |= status != 0;
  return status == 0;
}

#define CUDA(name, types, ...) check(#name, ((int (*) types)find(runtime, #name))(__VA_ARGS__))
#define BLAS(name, types, ...) check(#name, ((int (*) types)find(blas, #name))(__VA_ARGS__))

static void *load(const char *name) {
  void *library = dlopen(name, RTLD_NOW | RTLD_GLOBAL);
  printf("%s load %s%s%s\n", library ? "ok  " : "FAIL", name, library ? "" : ": ", library ? "" : dlerror());
  fflush(stdout);
  if (!library) exit(1);
  return library;
}

static void *stream, *handle, *on_device, *on_host;

/* ones · ones = 64 everywhere: 0x4280 in bfloat16. */
static void product(void) {
  float one = 1, zero = 0;
  char *a = on_device;
  BLAS(cublasGemmEx,
       (void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *,
        void *, int, int, int, int),
       handle, 0, 0, SIDE, SIDE, SIDE, &one, a, BFLOAT16, SIDE, a, BFLOAT16, SIDE, &zero, a + BYTES, BFLOAT16, SIDE,
       FLOAT_SUMS, -1);
}

static void copy(void *to, void *from, int kind) {
  CUDA(cudaMemcpyAsync, (void *, const void *, size_t, int, void *), to, from, BYTES, kind, stream);
}

static void expect_product(const char *what) {
  unsigned short first = *(unsigned short *)((char *)on_host + BYTES);
  printf("%s %s: 0x%04x, 0x4280 is right\n", first == 0x4280 ? "ok  " : "FAIL", what, first);
  failed |= first != 0x4280;
  memset((char *)on_host + BYTES, 0, BYTES);
}

static void captured(const char *name, int mode) {
  void *graph = NULL, *executable = NULL;
  printf("-- captured, %s\n", name);
  CUDA(cudaStreamBeginCapture, (void *, int), stream, mode);
  copy(on_device, on_host, 1);
  product();
  copy((char *)on_host + BYTES, (char *)on_device + BYTES, 2);
  CUDA(cudaStreamEndCapture, (void *, void **), stream, &graph);
  if (!graph) return;
  if (!CUDA(cudaGraphInstantiate, (void **, void *, unsigned long long), &executable, graph, 0)) return;
  CUDA(cudaGraphUpload, (void *, void *), executable, stream);
  CUDA(cudaGraphLaunch, (void *, void *), executable, stream);
  CUDA(cudaStreamSynchronize, (void *), stream);
  expect_product("captured product");
}

int main(int count, char **names) {
  void *driver = load("libcuda.so.1");
  int version = 0, devices = 0;
  check("cuInit", ((int (*)(unsigned))find(driver, "cuInit"))(0));
  check("cuDriverGetVersion", ((int (*)(int *))find(driver, "cuDriverGetVersion"))(&version));
  check("cuDeviceGetCount", ((int (*)(int *))find(driver, "cuDeviceGetCount"))(&devices));
  printf("driver for CUDA %d, %d devices\n", version, devices);

  runtime = load(count > 1 ? names[1] : "libcudart.so.13");
  if (!CUDA(cudaSetDevice, (int), 0)) return 1;
  size_t free_bytes = 0, total = 0;
  CUDA(cudaMemGetInfo, (size_t *, size_t *), &free_bytes, &total);
  printf("%zu of %zu MiB free\n", free_bytes >> 20, total >> 20);
  CUDA(cudaStreamCreateWithFlags, (void **, unsigned), &stream, 1);
  CUDA(cudaMalloc, (void **, size_t), &on_device, 2 * BYTES);
  if (!CUDA(cudaHostAlloc, (void **, size_t, unsigned), &on_host, 2 * BYTES, 2)) return 1;
  for (int i = 0; i < SIDE * SIDE; i++) ((unsigned short *)on_host)[i] = 0x3f80;
  memset((char *)on_host + BYTES, 0, BYTES);

  load(count > 2 ? names[2] : "libcublasLt.so.13");
  blas = load(count > 3 ? names[3] : "libcublas.so.13");
  if (!BLAS(cublasCreate_v2, (void **), &handle)) return 1;
  BLAS(cublasSetStream_v2, (void *, void *), handle, stream);
  copy(on_device, on_host, 1);
  product();
  copy((char *)on_host + BYTES, (char *)on_device + BYTES, 2);
  CUDA(cudaStreamSynchronize, (void *), stream);
  expect_product("product");

  captured("thread-local", 1);
  ((int (*)(void))find(runtime, "cudaGetLastError"))();
  captured("relaxed", 2);
  return failed;
}
