/*
 * Where does CUDA break? Driver, runtime, memory, cuBLAS, a captured graph, one after the other, without ONNX Runtime and
 * without Node. Each line says what was tried and what came of it; the first that fails is the place to look.
 *
 * Last: what a product takes that its thread has not made yet, on the handle of another thread and on one of its own.
 *
 *   gcc -O1 probe.c -o probe -ldl -lpthread && ./probe [libcudart.so.13 [libcublasLt.so.13 [libcublas.so.13]]]
 */
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

/* The products of a layer of the 0.6B shape, and one of its moderators. */
enum { SHAPES = 6, MOST = 512 };
static const struct {
  int m, k, floats;
} shapes[SHAPES] = {{4096, 1024, 0}, {1024, 2048, 0}, {3072, 1024, 0}, {1024, 3072, 0}, {512, 1024, 1}, {8, 512, 1}};
static char *matrices;

static int timed_product(void *blas_handle, int shape, int n) {
  float one = 1, zero = 0;
  int m = shapes[shape].m, k = shapes[shape].k;
  char *b = matrices + (32 << 20), *c = matrices + (64 << 20);
  if (shapes[shape].floats) {
    int (*product)(void *, int, int, int, int, int, const float *, const void *, int, const void *, int, const float *, void *,
                   int) = find(blas, "cublasSgemm_v2");
    return product(blas_handle, 0, 0, m, n, k, &one, matrices, m, b, k, &zero, c, m);
  }
  int (*product)(void *, int, int, int, int, int, const void *, const void *, int, int, const void *, int, int, const void *,
                 void *, int, int, int, int) = find(blas, "cublasGemmEx");
  return product(blas_handle, 1, 0, m, n, k, &one, matrices, BFLOAT16, k, b, BFLOAT16, k, &zero, c, BFLOAT16, m,
                 FLOAT_SUMS, -1);
}

/* Each product twice with rows that nobody had, then twice with as many as another thread had. */
static void *first_products(void *own) {
  int (*synchronize)(void *) = find(runtime, "cudaStreamSynchronize");
  int rows[] = {MOST, MOST, own == handle ? 500 : 384, own == handle ? 500 : 384};
  ((int (*)(int))find(runtime, "cudaSetDevice"))(0);
  for (int shape = 0; shape < SHAPES; shape++) {
    printf("     %s m %d k %d:", shapes[shape].floats ? "float" : "bf16 ", shapes[shape].m, shapes[shape].k);
    for (int i = 0; i < 4; i++) {
      double begun = milliseconds();
      int status = timed_product(own, shape, rows[i]);
      double called = milliseconds();
      status |= synchronize(stream);
      printf("  n %d call %.2f done %.2f ms%s", rows[i], called - begun, milliseconds() - begun, status ? " FAILED" : "");
    }
    printf("\n");
  }
  fflush(stdout);
  return NULL;
}

static void first_products_of_threads(void) {
  void *other = NULL;
  pthread_t thread;
  if (!CUDA(cudaMalloc, (void **, size_t), (void **)&matrices, 96 << 20)) return;
  printf("-- this thread\n");
  first_products(handle);
  printf("-- another thread, the same handle\n");
  pthread_create(&thread, NULL, first_products, handle);
  pthread_join(thread, NULL);
  BLAS(cublasCreate_v2, (void **), &other);
  BLAS(cublasSetStream_v2, (void *, void *), other, stream);
  printf("-- another thread, another handle\n");
  pthread_create(&thread, NULL, first_products, other);
  pthread_join(thread, NULL);
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
  ((int (*)(void))find(runtime, "cudaGetLastError"))();
  first_products_of_threads();
  return failed;
}
