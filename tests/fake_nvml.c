/* A driver's library that tells what a test has set: the part of nvml.h that qprof calls. One GPU. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { kFunctions = 16, kFields = 256 };

static const char* const names[kFunctions] = {
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetMemoryInfo",
};
static atomic_int codes[kFunctions];
static atomic_int field_codes[kFields];
static atomic_ullong value = 1234567;
static atomic_int delay_us;
static atomic_int hanging;
static atomic_int waiting;
static atomic_int opened;
static int device;

static int function(const char* name) {
  for (int i = 0; i < kFunctions && names[i]; ++i)
    if (strcmp(names[i], name) == 0) return i;
  return kFunctions - 1;
}

/* What a test sets. */
void fake_refuse(const char* name, int code) { atomic_store(&codes[function(name)], code); }
void fake_refuse_field(int field, int code) { atomic_store(&field_codes[field], code); }
void fake_value(unsigned long long to) { atomic_store(&value, to); }
void fake_delay(int microseconds) { atomic_store(&delay_us, microseconds); }
void fake_hang(int whether) { atomic_store(&hanging, whether); }
int fake_waiting(void) { return atomic_load(&waiting); }
int fake_opened(void) { return atomic_load(&opened); }

static int answer(const char* name) {
  if (atomic_load(&delay_us)) usleep(atomic_load(&delay_us));
  atomic_fetch_add(&waiting, 1);
  while (atomic_load(&hanging)) usleep(1000);
  atomic_fetch_sub(&waiting, 1);
  return atomic_load(&codes[function(name)]);
}

int nvmlInitWithFlags(unsigned flags) {
  (void)flags;
  atomic_fetch_add(&opened, 1);
  return 0;
}

int nvmlShutdown(void) {
  atomic_fetch_sub(&opened, 1);
  return 0;
}

const char* nvmlErrorString(int code) {
  static char text[2][32];
  static atomic_int turn;
  char* told = text[atomic_fetch_add(&turn, 1) & 1];
  snprintf(told, sizeof text[0], "fake error %d", code);
  return told;
}

int nvmlDeviceGetCount_v2(unsigned* count) {
  *count = 1;
  return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** handle) {
  *handle = &device;
  return index == 0 ? 0 : 2;
}

int nvmlDeviceGetMigMode(void* handle, unsigned* current, unsigned* pending) {
  (void)handle, (void)current, (void)pending;
  return 3;
}

int nvmlDeviceGetName(void* handle, char* name, unsigned length) {
  (void)handle;
  snprintf(name, length, "NVIDIA Fake");
  return 0;
}

int nvmlDeviceGetUUID(void* handle, char* uuid, unsigned length) {
  (void)handle;
  snprintf(uuid, length, "GPU-fake");
  return 0;
}

int nvmlDeviceGetArchitecture(void* handle, unsigned* architecture) {
  (void)handle;
  *architecture = 9;
  return 0;
}

int nvmlDeviceGetTotalEnergyConsumption(void* handle, unsigned long long* energy) {
  (void)handle;
  *energy = atomic_load(&value);
  return answer("nvmlDeviceGetTotalEnergyConsumption");
}

int nvmlDeviceGetPowerUsage(void* handle, unsigned* milliwatts) {
  (void)handle;
  *milliwatts = (unsigned)(atomic_load(&value) % 700000);
  return answer("nvmlDeviceGetPowerUsage");
}

struct field_value {
  unsigned field, scope;
  long long timestamp, latency;
  unsigned type, returned;
  union {
    double d;
    unsigned u;
    unsigned long long l;
  } value;
};

int nvmlDeviceGetFieldValues(void* handle, int count, struct field_value* values) {
  (void)handle;
  for (int i = 0; i < count; ++i) {
    values[i].returned = (unsigned)atomic_load(&field_codes[values[i].field % kFields]);
    values[i].value.u = (unsigned)(atomic_load(&value) % 700000) + values[i].field;
  }
  return answer("nvmlDeviceGetFieldValues");
}

int nvmlDeviceGetUtilizationRates(void* handle, unsigned* rates) {
  (void)handle;
  rates[0] = 97;
  rates[1] = 41;
  return answer("nvmlDeviceGetUtilizationRates");
}

int nvmlDeviceGetClockInfo(void* handle, int sort, unsigned* megahertz) {
  (void)handle;
  *megahertz = sort == 1 ? 1980 : 3201;
  return answer("nvmlDeviceGetClockInfo");
}

int nvmlDeviceGetCurrentClocksEventReasons(void* handle, unsigned long long* reasons) {
  (void)handle;
  *reasons = 0x44;
  return answer("nvmlDeviceGetCurrentClocksEventReasons");
}

int nvmlDeviceGetTemperature(void* handle, int sensor, unsigned* degrees) {
  (void)handle, (void)sensor;
  *degrees = 61;
  return answer("nvmlDeviceGetTemperature");
}

int nvmlDeviceGetMemoryInfo(void* handle, unsigned long long* memory) {
  (void)handle;
  memory[0] = 80ull << 30;
  memory[1] = 70ull << 30;
  memory[2] = 10ull << 30;
  return answer("nvmlDeviceGetMemoryInfo");
}
