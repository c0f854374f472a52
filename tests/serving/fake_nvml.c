// What pynvml asks of libnvidia-ml.so.1, answered from a file that a test maps and writes while this runs.
// Power is mean + swing · sin(2πt/period); the energy counter is its closed integral, as the driver would
// show it: in whole mJ, brought up to date every `update_ms`. -DOLD_DRIVER leaves newer functions out.
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define GPUS 8
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7 };
typedef struct {
  double since_s, base_mj, mean_mw, swing_mw, period_s;
} Draw;
typedef struct {
  Draw draws[2];
  int active;  // which of the draws holds: written last, so that a reader never sees half of one
  int lost_rc, energy_rc, power_rc, instant_rc, set_rc, mig;
  int limit_mw, least_mw, most_mw, locked_mhz, sm_mhz, memory_mhz, temperature_c, update_ms;
  int pids[4];
  long long throttle, memory_bytes;
} Gpu;
typedef struct {
  int init_rc, count;
  Gpu gpus[GPUS];
} State;
typedef int R;
typedef Gpu *D;
static State *state;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}
static double swing_mj(Draw *d, double at) {  // ∫ swing · sin from 0
  double w = 2 * M_PI / d->period_s;
  return d->swing_mw / w * (1 - cos(w * at));
}
static double energy_mj(Draw *d, double at) {
  return d->base_mj + d->mean_mw * (at - d->since_s) + swing_mj(d, at) - swing_mj(d, d->since_s);
}
static double power_mw(Draw *d, double at) {
  return d->mean_mw + d->swing_mw * sin(2 * M_PI * at / d->period_s);
}

R nvmlInitWithFlags(unsigned flags) {
  if (!state) {
    int file = open(getenv("WATTFRONT_FAKE_NVML"), O_RDWR);
    if (file < 0) return 9;
    state = mmap(0, sizeof(State), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
  }
  return state->init_rc;
}
R nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
R nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(R r) {
  switch (r) {
    case NOT_SUPPORTED: return "Not Supported";
    case NO_PERMISSION: return "Insufficient Permissions";
    case NOT_FOUND: return "Not Found";
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
  }
}
R nvmlSystemGetDriverVersion(char *s, unsigned l) { snprintf(s, l, "580.00.fake"); return OK; }
R nvmlDeviceGetCount_v2(unsigned *o) { *o = state->count; return OK; }
R nvmlDeviceGetHandleByIndex_v2(unsigned i, D *o) {
  if (i >= (unsigned)state->count) return INVALID;
  *o = &state->gpus[i];
  return OK;
}
R nvmlDeviceGetName(D g, char *s, unsigned l) { snprintf(s, l, "NVIDIA Fake"); return g->lost_rc; }
R nvmlDeviceGetUUID(D g, char *s, unsigned l) {
  snprintf(s, l, "%s-0000000%d", g->mig ? "MIG" : "GPU", (int)(g - state->gpus));
  return OK;
}
R nvmlDeviceGetHandleByUUID(const char *wanted, D *o) {
  for (int i = 0; i < state->count; i++) {
    char name[64];
    nvmlDeviceGetUUID(&state->gpus[i], name, 64);
    if (!strcmp(name, wanted)) return nvmlDeviceGetHandleByIndex_v2(i, o);
  }
  return NOT_FOUND;
}
R nvmlDeviceGetPowerUsage(D g, unsigned *o) {  // the mean of the last second
  if (g->lost_rc) return g->lost_rc;
  if (g->mig) return NOT_SUPPORTED;
  if (g->power_rc) return g->power_rc;
  Draw *d = &g->draws[g->active];
  double t = now();
  *o = fmax(0, energy_mj(d, t) - energy_mj(d, t - 1));
  return OK;
}
#ifndef OLD_DRIVER
R nvmlDeviceGetTotalEnergyConsumption(D g, unsigned long long *o) {
  if (g->lost_rc) return g->lost_rc;
  if (g->mig) return NOT_SUPPORTED;
  if (g->energy_rc) return g->energy_rc;
  double step = g->update_ms * 1e-3, t = now();
  Draw *d = &g->draws[g->active];
  double at = fmax(step > 0 ? floor(t / step) * step : t, d->since_s);
  *o = (unsigned long long)energy_mj(d, at);
  return OK;
}
typedef struct {
  unsigned field, scope;
  long long stamp, latency;
  int type;
  R rc;
  union { double d; unsigned u; unsigned long long ull; } value;
} Field;
R nvmlDeviceGetFieldValues(D g, int n, Field *f) {
  if (g->lost_rc) return g->lost_rc;
  for (int i = 0; i < n; i++) {
    f[i].rc = g->mig ? NOT_SUPPORTED : g->power_rc ? g->power_rc : f[i].field == 186 ? g->instant_rc : NOT_SUPPORTED;
    f[i].value.u = power_mw(&g->draws[g->active], now());
  }
  return OK;
}
R nvmlDeviceGetCurrentClocksEventReasons(D g, unsigned long long *o) { *o = g->throttle; return g->lost_rc; }
#endif
R nvmlDeviceGetCurrentClocksThrottleReasons(D g, unsigned long long *o) { *o = g->throttle; return g->lost_rc; }
R nvmlDeviceGetClockInfo(D g, int type, unsigned *o) {
  *o = type == 2 ? g->memory_mhz : g->locked_mhz ? g->locked_mhz : g->sm_mhz;
  return g->lost_rc;
}
R nvmlDeviceGetTemperature(D g, int sensor, unsigned *o) { *o = g->temperature_c; return g->lost_rc; }
typedef struct { unsigned long long total, free, used; } Memory;
R nvmlDeviceGetMemoryInfo(D g, Memory *m) {
  m->total = 80ull << 30; m->used = g->memory_bytes; m->free = m->total - m->used;
  return g->lost_rc;
}
R nvmlDeviceGetEnforcedPowerLimit(D g, unsigned *o) { *o = g->limit_mw; return g->lost_rc; }
R nvmlDeviceGetPowerManagementLimit(D g, unsigned *o) { *o = g->limit_mw; return g->lost_rc; }
R nvmlDeviceGetPowerManagementLimitConstraints(D g, unsigned *a, unsigned *b) {
  *a = g->least_mw; *b = g->most_mw;
  return g->lost_rc;
}
R nvmlDeviceSetPowerManagementLimit(D g, unsigned mw) {
  if (g->set_rc || g->lost_rc) return g->set_rc ? g->set_rc : g->lost_rc;
  g->limit_mw = mw;
  return OK;
}
R nvmlDeviceSetGpuLockedClocks(D g, unsigned low, unsigned high) {
  if (!g->set_rc) g->locked_mhz = high;
  return g->set_rc;
}
R nvmlDeviceResetGpuLockedClocks(D g) { g->locked_mhz = 0; return g->set_rc; }
typedef struct { unsigned pid; unsigned long long memory; unsigned instance, compute; } Process;
static R processes(D g, unsigned *n, Process *p) {
  unsigned found = 0;
  for (int i = 0; i < 4; i++) found += g->pids[i] > 0;
  if (found && (!p || *n < found)) { *n = found; return TOO_SMALL; }
  for (unsigned i = 0, k = 0; i < 4; i++) if (g->pids[i]) p[k++] = (Process){g->pids[i], 1 << 20, ~0u, ~0u};
  *n = found;
  return g->lost_rc;
}
R nvmlDeviceGetComputeRunningProcesses_v2(D g, unsigned *n, Process *p) { return processes(g, n, p); }
#ifndef OLD_DRIVER
R nvmlDeviceGetComputeRunningProcesses_v3(D g, unsigned *n, Process *p) { return processes(g, n, p); }
#endif
