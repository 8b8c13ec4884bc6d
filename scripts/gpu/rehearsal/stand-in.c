/*
 * Stands in for NVIDIA's driver and libraries where there is no GPU: device memory is host memory, copies are copies,
 * kernels are counted and not run. What CUDA forbids while a stream is captured fails here too, with the same number,
 * and the thread's error stays set until somebody asks for it; a captured graph keeps its copies and does them when it
 * is launched. Each kernel, product and copy is traced with the stream that it was given.
 *
 * One source for all libraries; what the provider imports and this file lacks is added by build.sh as functions that
 * return 0. STAND_IN_TRACE names a file that gets one line for each call.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SUCCESS 0
#define OUT_OF_MEMORY 2
#define CAPTURE_UNSUPPORTED 900
#define TOTAL_BYTES (143771ull << 20)
/* What a context and loaded kernels take. */
#define CONTEXT_BYTES (600ull << 20)

static FILE *trace_file;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static __thread int last_error;

__attribute__((constructor)) static void open_trace(void) {
  const char *path = getenv("STAND_IN_TRACE");
  if (path && *path) trace_file = fopen(path, "a");
}

static void trace(const char *format, ...) {
  if (!trace_file) return;
  va_list arguments;
  va_start(arguments, format);
  pthread_mutex_lock(&lock);
  fprintf(trace_file, "%lx ", (unsigned long)pthread_self() & 0xffffff);
  vfprintf(trace_file, format, arguments);
  fputc('\n', trace_file);
  fflush(trace_file);
  pthread_mutex_unlock(&lock);
  va_end(arguments);
}

static int number(const char *name, int otherwise) {
  const char *text = getenv(name);
  return text && *text ? atoi(text) : otherwise;
}

/* ---- threads and devices ---- */

/* A thread that was never given a device works on the first one. */
static __thread int current_device = 0;

/* ---- what a graph holds ---- */

typedef struct {
  void *to;
  const void *from;
  size_t bytes;
  int value; /* memset where from is null */
} Copy;

typedef struct {
  size_t count, nodes;
  Copy copies[4096];
} Graph;

static Graph *capturing;
static void *captured_stream;
static int capture_mode; /* 0 global, 1 of this thread, 2 relaxed */
static pthread_t capture_thread;
static int events;

/* Calls that a capture forbids: to every thread, to its own, or to none, as the mode says. */
static int forbidden(const char *name) {
  if (!capturing || capture_mode == 2) return SUCCESS;
  if (capture_mode == 1 && !pthread_equal(pthread_self(), capture_thread)) return SUCCESS;
  trace("%s FORBIDDEN while capturing", name);
  return last_error = CAPTURE_UNSUPPORTED;
}

static int recorded(void *stream, void *to, const void *from, size_t bytes, int value) {
  if (!capturing || stream != captured_stream) return 0;
  capturing->nodes++;
  if (capturing->count < 4096) capturing->copies[capturing->count++] = (Copy){to, from, bytes, value};
  return 1;
}

typedef struct {
  int device;
} Stream;

/* What is queued on a stream: a node of the graph where that stream is captured. */
static const char *queued(Stream *stream) {
  static __thread char text[96];
  int elsewhere = stream && stream->device != current_device;
  int inside = capturing && stream == captured_stream;
  if (inside) capturing->nodes++;
  snprintf(text, sizeof(text), " stream %p%s%s", (void *)stream, inside ? " (captured)" : "",
           elsewhere ? " ON ANOTHER DEVICE" : "");
  return text;
}

/* ---- libcudart: memory ---- */

typedef struct {
  size_t bytes;
  size_t padding[511];
} Header;

static size_t used = CONTEXT_BYTES;

static int allocate(void **address, size_t bytes, int device) {
  if (device && used + bytes > TOTAL_BYTES) return last_error = OUT_OF_MEMORY;
  Header *header =
      mmap(NULL, bytes + sizeof(Header), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (header == MAP_FAILED) return last_error = OUT_OF_MEMORY;
  header->bytes = bytes;
  if (device) used += bytes;
  *address = header + 1;
  return SUCCESS;
}

static int release(void *address, int device) {
  if (!address) return SUCCESS;
  Header *header = (Header *)address - 1;
  if (device) used -= header->bytes;
  munmap(header, header->bytes + sizeof(Header));
  return SUCCESS;
}

/* Zeros without touching memory that nobody has touched: caches are larger here than the machine's memory. */
static void fill(void *to, int value, size_t bytes) {
  uintptr_t from = ((uintptr_t)to + 4095) & ~4095ul, end = ((uintptr_t)to + bytes) & ~4095ul;
  if (value == 0 && bytes >= 1 << 20 && !madvise((void *)from, end - from, MADV_DONTNEED)) {
    memset(to, 0, from - (uintptr_t)to);
    memset((void *)end, 0, (uintptr_t)to + bytes - end);
  } else {
    memset(to, value, bytes);
  }
}

int cudaMalloc(void **address, size_t bytes) {
  trace("cudaMalloc %zu", bytes);
  int problem = forbidden("cudaMalloc");
  return problem ? problem : allocate(address, bytes, 1);
}
int cudaFree(void *address) {
  trace("cudaFree");
  int problem = forbidden("cudaFree");
  return problem ? problem : release(address, 1);
}
int cudaMallocHost(void **address, size_t bytes) {
  trace("cudaMallocHost %zu", bytes);
  int problem = forbidden("cudaMallocHost");
  return problem ? problem : allocate(address, bytes, 0);
}
int cudaHostAlloc(void **address, size_t bytes, unsigned flags) {
  trace("cudaHostAlloc %zu flags %u", bytes, flags);
  int problem = forbidden("cudaHostAlloc");
  return problem ? problem : allocate(address, bytes, 0);
}
int cudaFreeHost(void *address) {
  trace("cudaFreeHost");
  int problem = forbidden("cudaFreeHost");
  return problem ? problem : release(address, 0);
}
int cudaMallocFromPoolAsync(void **address, size_t bytes, void *pool, void *stream) {
  trace("cudaMallocFromPoolAsync %zu", bytes);
  return allocate(address, bytes, 1);
}
int cudaFreeAsync(void *address, void *stream) { return release(address, 1); }
int cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  *free_bytes = TOTAL_BYTES - used;
  *total = TOTAL_BYTES;
  return SUCCESS;
}
int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
  trace("cudaMemcpy %zu kind %d", bytes, kind);
  int problem = forbidden("cudaMemcpy");
  if (!problem) memcpy(to, from, bytes);
  return problem;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
  trace("cudaMemcpyAsync %zu kind %d stream %p", bytes, kind, stream);
  if (!recorded(stream, to, from, bytes, 0)) memcpy(to, from, bytes);
  return SUCCESS;
}
int cudaMemcpy2DAsync(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t width, size_t height,
                      int kind, void *stream) {
  trace("cudaMemcpy2DAsync %zu x %zu kind %d stream %p", width, height, kind, stream);
  for (size_t row = 0; row < height; row++)
    memmove((char *)to + row * to_pitch, (const char *)from + row * from_pitch, width);
  return SUCCESS;
}
int cudaMemset(void *to, int value, size_t bytes) {
  trace("cudaMemset %zu", bytes);
  int problem = forbidden("cudaMemset");
  if (!problem) fill(to, value, bytes);
  return problem;
}
int cudaMemsetAsync(void *to, int value, size_t bytes, void *stream) {
  trace("cudaMemsetAsync %zu stream %p", bytes, stream);
  if (!recorded(stream, to, NULL, bytes, value)) fill(to, value, bytes);
  return SUCCESS;
}
int cudaMemcpyFromSymbol(void *to, const void *symbol, size_t bytes, size_t offset, int kind) {
  trace("cudaMemcpyFromSymbol %zu", bytes);
  int problem = forbidden("cudaMemcpyFromSymbol");
  if (!problem) memset(to, 0, bytes);
  return problem;
}
int cudaPointerGetAttributes(int *attributes, const void *address) {
  attributes[0] = 2; /* device memory */
  attributes[1] = 0;
  ((const void **)attributes)[1] = ((const void **)attributes)[2] = address;
  return SUCCESS;
}

/* ---- libcudart: device ---- */

/* Where cudaDeviceProp of CUDA 13 has its fields, and an H200's values. */
static const struct {
  size_t offset, bytes;
  uint64_t value;
} PROPERTIES[] = {
    {288, 8, TOTAL_BYTES}, /* totalGlobalMem */
    {296, 8, 49152},       /* sharedMemPerBlock */
    {304, 4, 65536},       /* regsPerBlock */
    {308, 4, 32},          /* warpSize */
    {320, 4, 1024},        /* maxThreadsPerBlock */
    {324, 4, 1024}, {328, 4, 1024}, {332, 4, 64}, /* maxThreadsDim */
    {336, 4, 2147483647}, {340, 4, 65535}, {344, 4, 65535}, /* maxGridSize */
    {360, 4, 9},           /* major */
    {364, 4, 0},           /* minor */
    {384, 4, 132},         /* multiProcessorCount */
    {392, 4, 1},           /* canMapHostMemory */
    {588, 4, 1},           /* unifiedAddressing */
    {596, 4, 62914560},    /* l2CacheSize */
    {604, 4, 2048},        /* maxThreadsPerMultiProcessor */
    {624, 8, 233472},      /* sharedMemPerMultiprocessor */
    {632, 4, 65536},       /* regsPerMultiprocessor */
    {668, 4, 1},           /* cooperativeLaunch */
    {672, 8, 232448},      /* sharedMemPerBlockOptin */
    {688, 4, 32},          /* maxBlocksPerMultiProcessor */
};

int cudaGetDeviceProperties(char *properties, int device) {
  memset(properties, 0, 1008);
  strcpy(properties, "Stand-in H200");
  for (size_t i = 0; i < sizeof(PROPERTIES) / sizeof(*PROPERTIES); i++)
    memcpy(properties + PROPERTIES[i].offset, &PROPERTIES[i].value, PROPERTIES[i].bytes);
  return SUCCESS;
}
int cudaDeviceGetAttribute(int *value, int attribute, int device) {
  switch (attribute) {
    case 8: *value = 49152; break;    /* MaxSharedMemoryPerBlock */
    case 16: *value = 132; break;     /* MultiProcessorCount */
    case 39: *value = 2048; break;    /* MaxThreadsPerMultiProcessor */
    case 75: *value = 9; break;       /* ComputeCapabilityMajor */
    case 76: *value = 0; break;       /* ComputeCapabilityMinor */
    case 81: *value = 233472; break;  /* MaxSharedMemoryPerMultiprocessor */
    case 97: *value = 232448; break;  /* MaxSharedMemoryPerBlockOptin */
    default: *value = 1;
  }
  return SUCCESS;
}
static int device_count(void) { return number("STAND_IN_DEVICES", 1); }
int cudaGetDeviceCount(int *count) { return *count = device_count(), SUCCESS; }
int cudaGetDevice(int *device) { return *device = current_device, SUCCESS; }
int cudaSetDevice(int device) {
  trace("cudaSetDevice %d", device);
  if (device < 0 || device >= device_count()) return last_error = 101;
  current_device = device;
  return SUCCESS;
}
int cudaDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cudaRuntimeGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cudaDeviceSynchronize(void) {
  trace("cudaDeviceSynchronize");
  return forbidden("cudaDeviceSynchronize");
}
const char *cudaGetErrorName(int error) { return error ? "cudaErrorStandIn" : "cudaSuccess"; }
const char *cudaGetErrorString(int error) {
  if (error == OUT_OF_MEMORY) return "out of memory";
  if (error == CAPTURE_UNSUPPORTED) return "operation not permitted when stream is capturing";
  return error ? "an error of the stand-in" : "no error";
}
int cudaGetLastError(void) {
  int error = last_error;
  last_error = SUCCESS;
  return error;
}
int cudaPeekAtLastError(void) { return last_error; }
int cudaFuncGetAttributes(size_t *attributes, const void *kernel) {
  memset(attributes, 0, 3 * sizeof(size_t));
  int *numbers = (int *)(attributes + 3);
  numbers[0] = 1024; /* maxThreadsPerBlock */
  numbers[1] = 32;   /* numRegs */
  numbers[2] = numbers[3] = 90;
  return SUCCESS;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *f, int size, size_t shared, int x) {
  return *blocks = 2, SUCCESS;
}

/* ---- libcudart: streams, events, graphs ---- */

int cudaStreamCreateWithFlags(Stream **stream, unsigned flags) {
  *stream = malloc(sizeof(Stream));
  (*stream)->device = current_device;
  return SUCCESS;
}
int cudaStreamCreate(Stream **stream) { return cudaStreamCreateWithFlags(stream, 0); }
int cudaStreamDestroy(void *stream) { return free(stream), SUCCESS; }
int cudaStreamSynchronize(void *stream) {
  trace("cudaStreamSynchronize %p", stream);
  return forbidden("cudaStreamSynchronize");
}
int cudaStreamQuery(void *stream) { return SUCCESS; }
int cudaEventCreateWithFlags(void **event, unsigned flags) {
  trace("cudaEventCreate %d", ++events);
  return *event = malloc(16), SUCCESS;
}
int cudaEventCreate(void **event) { return cudaEventCreateWithFlags(event, 0); }
int cudaEventDestroy(void *event) {
  events--;
  return free(event), SUCCESS;
}
int cudaEventRecord(void *event, void *stream) {
  trace("cudaEventRecord stream %p", stream);
  return SUCCESS;
}
int cudaEventSynchronize(void *event) {
  trace("cudaEventSynchronize");
  return forbidden("cudaEventSynchronize");
}
int cudaEventElapsedTime(float *milliseconds, void *from, void *to) { return *milliseconds = 0.001f, SUCCESS; }
int cudaLaunchHostFunc(void *stream, void (*function)(void *), void *data) {
  trace("cudaLaunchHostFunc%s", capturing ? " FORBIDDEN while capturing" : "");
  if (!capturing) function(data);
  return SUCCESS;
}
int cudaStreamIsCapturing(void *stream, int *status) {
  *status = capturing && stream == captured_stream;
  return SUCCESS;
}
int cudaStreamBeginCapture(void *stream, int mode) {
  trace("cudaStreamBeginCapture %p mode %d", stream, mode);
  if (capturing || !stream) return last_error = 901;
  capturing = calloc(1, sizeof(Graph));
  captured_stream = stream;
  capture_mode = mode;
  capture_thread = pthread_self();
  return SUCCESS;
}
int cudaStreamEndCapture(void *stream, Graph **graph) {
  if (!capturing) return last_error = 901;
  /* For a rehearsal of what comes then: so many captures fail. */
  static int refused;
  if (refused < number("STAND_IN_REFUSES", 0)) {
    refused++;
    trace("cudaStreamEndCapture refused");
    free(capturing);
    capturing = NULL;
    *graph = NULL;
    return last_error = 901;
  }
  trace("cudaStreamEndCapture: %zu nodes, of them %zu copies", capturing->nodes, capturing->count);
  *graph = capturing;
  capturing = NULL;
  return SUCCESS;
}
int cudaGraphInstantiate(Graph **executable, const Graph *graph, unsigned long long flags) {
  *executable = malloc(sizeof(Graph));
  memcpy(*executable, graph, sizeof(Graph));
  return SUCCESS;
}
int cudaGraphDestroy(Graph *graph) { return free(graph), SUCCESS; }
int cudaGraphExecDestroy(Graph *executable) {
  trace("cudaGraphExecDestroy");
  return free(executable), SUCCESS;
}
int cudaGraphUpload(Graph *executable, void *stream) {
  trace("cudaGraphUpload stream %p", stream);
  return SUCCESS;
}
int cudaGraphLaunch(const Graph *executable, void *stream) {
  trace("cudaGraphLaunch: %zu nodes, stream %p", executable->nodes, stream);
  for (size_t i = 0; i < executable->count; i++) {
    const Copy *copy = &executable->copies[i];
    if (copy->from)
      memcpy(copy->to, copy->from, copy->bytes);
    else
      memset(copy->to, copy->value, copy->bytes);
  }
  return SUCCESS;
}

/* ---- libcudart: kernels ---- */

#define MAX_KERNELS 65536
static struct {
  const void *function;
  const char *name;
} kernels[MAX_KERNELS];
static size_t kernel_count;

void __cudaRegisterFunction(void **binary, const char *function, char *host_name, const char *name) {
  if (kernel_count < MAX_KERNELS) {
    kernels[kernel_count].function = function;
    kernels[kernel_count++].name = name;
  }
}
static const char *kernel_name(const void *function) {
  for (size_t i = 0; i < kernel_count; i++)
    if (kernels[i].function == function) return kernels[i].name;
  return "?";
}
void **__cudaRegisterFatBinary(void *binary) { return malloc(16); }
/* A dim3 goes by value in two registers. */
typedef struct {
  uint64_t grid_xy, grid_z, block_xy, block_z;
  size_t shared;
  void *stream;
} Configuration;
static __thread Configuration configuration;
unsigned __cudaPushCallConfiguration(uint64_t grid_xy, uint64_t grid_z, uint64_t block_xy, uint64_t block_z,
                                     size_t shared, void *stream) {
  configuration = (Configuration){grid_xy, grid_z, block_xy, block_z, shared, stream};
  return SUCCESS;
}
unsigned __cudaPopCallConfiguration(void *grid, void *block, size_t *shared, void **stream) {
  memcpy(grid, &configuration.grid_xy, 8);
  memcpy((char *)grid + 8, &configuration.grid_z, 4);
  memcpy(block, &configuration.block_xy, 8);
  memcpy((char *)block + 8, &configuration.block_z, 4);
  *shared = configuration.shared;
  *stream = configuration.stream;
  return SUCCESS;
}
int __cudaGetKernel(const void **kernel, const void *function) { return *kernel = function, SUCCESS; }
static int launched(const void *function, uint64_t grid_xy, uint64_t grid_z, void *stream) {
  const char *where = queued(stream);
  trace("kernel %s grid %u,%u,%u%s", kernel_name(function), (unsigned)grid_xy, (unsigned)(grid_xy >> 32),
        (unsigned)grid_z, where);
  return SUCCESS;
}
int cudaLaunchKernel(const void *function, uint64_t grid_xy, uint64_t grid_z, uint64_t block_xy, uint64_t block_z,
                     void **arguments, size_t shared, void *stream) {
  return launched(function, grid_xy, grid_z, stream);
}
int __cudaLaunchKernel(const void *function, uint64_t grid_xy, uint64_t grid_z, uint64_t block_xy, uint64_t block_z,
                       void **arguments, size_t shared, void *stream) {
  return launched(function, grid_xy, grid_z, stream);
}
int cudaLaunchCooperativeKernel(const void *function, uint64_t grid_xy, uint64_t grid_z, uint64_t block_xy,
                                uint64_t block_z, void **arguments, size_t shared, void *stream) {
  return launched(function, grid_xy, grid_z, stream);
}
typedef struct {
  unsigned grid[3], block[3];
  size_t shared;
  void *stream;
} LaunchConfig;
int cudaLaunchKernelExC(const LaunchConfig *config, const void *function) {
  return launched(function, config->grid[0] | (uint64_t)config->grid[1] << 32, config->grid[2], config->stream);
}
int cudaLibraryLoadData(void **library) { return *library = malloc(16), SUCCESS; }
int cudaLibraryGetKernel(void **kernel, void *library, const char *name) { return *kernel = malloc(16), SUCCESS; }
int cudaMemPoolCreate(void **pool) { return *pool = malloc(16), SUCCESS; }

/* ---- libcuda, libnvidia-ml ---- */

int cuTensorMapEncodeTiled(void) { return SUCCESS; }
static int any(void) { return SUCCESS; }
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, uint64_t flags, int *status) {
  trace("cudaGetDriverEntryPointByVersion %s", name);
  *function = (void *)any;
  if (status) *status = 0;
  return SUCCESS;
}
int cuInit(unsigned flags) { return SUCCESS; }
int cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
int cuDeviceGetCount(int *count) { return *count = device_count(), SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, SUCCESS; }
int cuDeviceGetName(char *name, int length, int device) { return snprintf(name, length, "Stand-in H200"), SUCCESS; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return *bytes = TOTAL_BYTES, SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { return *value = attribute == 75 ? 9 : 0, SUCCESS; }
int cuDeviceGetPCIBusId(char *id, int length, int device) { return snprintf(id, length, "0000:01:00.0"), SUCCESS; }
int cuGetErrorString(int error, const char **text) { return *text = "an error of the stand-in", SUCCESS; }

/* ---- libcublas, libcublasLt ---- */

typedef struct {
  void *stream;
} Cublas;
int cublasCreate_v2(Cublas **handle) {
  trace("cublasCreate");
  int problem = forbidden("cublasCreate");
  *handle = calloc(1, sizeof(Cublas));
  return problem ? 14 : SUCCESS; /* CUBLAS_STATUS_INTERNAL_ERROR */
}
int cublasDestroy_v2(void *handle) { return free(handle), SUCCESS; }
int cublasSetStream_v2(Cublas *handle, void *stream) { return handle->stream = stream, SUCCESS; }
int cublasGetMathMode(void *handle, int *mode) { return *mode = 0, SUCCESS; }
const char *cublasGetStatusName(int status) { return "CUBLAS_STAND_IN"; }
const char *cublasGetStatusString(int status) { return "a status of the stand-in"; }
static int product(const char *name, void *stream, int turn_a, int turn_b, int m, int n, int k) {
  const char *where = queued(stream);
  trace("%s %c%c m %d n %d k %d%s", name, turn_a ? 'T' : 'N', turn_b ? 'T' : 'N', m, n, k, where);
  return SUCCESS;
}
int cublasGemmEx(Cublas *handle, int ta, int tb, int m, int n, int k) {
  return product("cublasGemmEx", handle->stream, ta, tb, m, n, k);
}
int cublasSgemm_v2(Cublas *handle, int ta, int tb, int m, int n, int k) {
  return product("cublasSgemm", handle->stream, ta, tb, m, n, k);
}
int cublasGemmStridedBatchedEx(Cublas *handle, int ta, int tb, int m, int n, int k) {
  return product("cublasGemmStridedBatchedEx", handle->stream, ta, tb, m, n, k);
}
int cublasGemmBatchedEx(Cublas *handle, int ta, int tb, int m, int n, int k) {
  return product("cublasGemmBatchedEx", handle->stream, ta, tb, m, n, k);
}
int cublasLtCreate(void **handle) { return *handle = malloc(16), SUCCESS; }
int cublasLtDestroy(void *handle) { return free(handle), SUCCESS; }
int cublasLtMatmulDescCreate(void **description) { return *description = malloc(16), SUCCESS; }
int cublasLtMatmulDescDestroy(void *description) { return free(description), SUCCESS; }
int cublasLtMatrixLayoutCreate(void **layout) { return *layout = malloc(16), SUCCESS; }
int cublasLtMatrixLayoutDestroy(void *layout) { return free(layout), SUCCESS; }
int cublasLtMatmulPreferenceCreate(void **preference) { return *preference = malloc(16), SUCCESS; }
int cublasLtMatmulPreferenceDestroy(void *preference) { return free(preference), SUCCESS; }
int cublasLtMatmulAlgoGetHeuristic(void *handle, void *a, void *b, void *c, void *d, void *e, void *preference,
                                   int requested, char *results, int *count) {
  memset(results, 0, 96); /* one result: algorithm of 64 bytes, workspace, state, waves, reserved */
  return *count = 1, SUCCESS;
}
int cublasLtMatmul(void *handle, void *operation, void *alpha, void *a, void *a_layout, void *b, void *b_layout,
                   void *beta, void *c, void *c_layout, void *d, void *d_layout, void *algorithm, void *workspace,
                   size_t workspace_bytes, void *stream) {
  return product("cublasLtMatmul", stream, 0, 0, 0, 0, 0);
}
