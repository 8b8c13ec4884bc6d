// A stand-in for NVIDIA's driver: libcuda.so.1, or with -DNVML its libnvidia-ml.so.1. One device, no memory of its own.
#include <stddef.h>
#include <string.h>

#ifdef NVML
typedef struct { unsigned long long total, free, used; } Memory;
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { strncpy(text, "580.95.05", length); return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *id, void **device) {
  *device = (void *)1;
  return strcmp(id, "0000:01:00.0") != 0;
}
int nvmlDeviceGetMemoryInfo(void *device, Memory *memory) { memory->free = 60ULL << 30; return device != (void *)1; }
#else
#ifndef VERSION
#define VERSION 13000
#endif
int cuInit(unsigned flags) {
#ifdef INIT
  return INIT;
#endif
  return flags != 0;
}
int cuGetErrorString(int status, const char **text) { *text = "no CUDA-capable device is detected"; return 0; }
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7 + ordinal; return 0; }
int cuDeviceGetName(char *name, int length, int device) { strncpy(name, "Stand-in", length); return device != 7; }
int cuDeviceGetPCIBusId(char *id, int length, int device) { strncpy(id, "0000:01:00.0", length); return device != 7; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 80ULL << 30; return device != 7; }
#ifndef MAJOR
#define MAJOR 9
#endif
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? MAJOR : 0; return device != 7; }
#endif
