/* Everything that links the simulation with the test around it. Without MMALSIM_DIR there are no faults, no
   counters, no log, and nobody else can hold the camera. */
#define _GNU_SOURCE
#include "sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

static int open_in_folder(const char *name, int flags) {
    const char *folder = getenv("MMALSIM_DIR");
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path) return -1;
    return open(path, flags | O_CREAT | O_CLOEXEC, 0666);
}

static sim_state *map_state(void) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;
    int fd = open_in_folder("state", O_RDWR);
    if (fd >= 0 && ftruncate(fd, sizeof(sim_state)) == 0) flags = MAP_SHARED;
    sim_state *state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, flags, flags == MAP_SHARED ? fd : -1, 0);
    if (fd >= 0) close(fd);
    if (state == MAP_FAILED) abort();
    memcpy(state->magic, "MMALSIM1", sizeof state->magic);
    return state;
}

sim_world sim_world_open(void) {
    return (sim_world){map_state(), open_in_folder("frames.csv", O_WRONLY | O_APPEND), {-1, -1}};
}

void sim_world_close(sim_world *world) {
    for (unsigned camera = 0; camera < SIM_CAMERAS; camera++) sim_give_camera(world, camera);
    if (world->log_fd >= 0) close(world->log_fd);
    munmap(world->state, sizeof *world->state);
}

/* One write a line, so that lines of two processes never mix and none is lost when the process is killed. */
void sim_log(const sim_world *world, unsigned camera, uint64_t frame, int64_t stc_us, const MMAL_PORT_T *port,
             const char *fate) {
    if (world->log_fd < 0) return;
    char line[160];
    int length = snprintf(line, sizeof line, "%u,%llu,%lld,%s,%s\n", camera, (unsigned long long)frame,
                          (long long)stc_us, port ? port->name : "", fate);
    while (write(world->log_fd, line, (size_t)length) < 0 && errno == EINTR) {}
}

/* flock: the kernel lets go of it when the holder dies, however it dies. */
bool sim_take_camera(sim_world *world, unsigned camera) {
    if (world->lock_fd[camera] >= 0 || !getenv("MMALSIM_DIR")) return true;
    int fd = open_in_folder(camera ? "camera1.lock" : "camera0.lock", O_RDWR);
    if (fd < 0) return true;
    if (flock(fd, LOCK_EX | LOCK_NB)) {
        close(fd);
        return false;
    }
    world->lock_fd[camera] = fd;
    world->state->camera[camera].holder_pid = (uint32_t)getpid();
    return true;
}

void sim_give_camera(sim_world *world, unsigned camera) {
    if (world->lock_fd[camera] < 0) return;
    world->state->camera[camera].holder_pid = 0;
    close(world->lock_fd[camera]);
    world->lock_fd[camera] = -1;
}

long sim_setting(const char *name, long otherwise) {
    const char *text = getenv(name);
    return text && *text ? strtol(text, NULL, 0) : otherwise;
}

/* MMALSIM_REFUSE="step:status": what the given step is to answer instead of working. */
MMAL_STATUS_T sim_refusal(const char *step) {
    const char *refusal = getenv("MMALSIM_REFUSE");
    size_t length = strlen(step);
    if (!refusal || strncmp(refusal, step, length) || refusal[length] != ':') return MMAL_SUCCESS;
    return strcmp(refusal + length + 1, "ENOMEM") ? MMAL_ENOSPC : MMAL_ENOMEM;
}

/* ---- clocks ---- */

int64_t sim_monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The STC counts microseconds on an oscillator of its own, from a moment of its own. */
static double stc_rate(void) {
    return 1.0 + (double)sim_setting("MMALSIM_STC_DRIFT_PPM", 0) / 1e6;
}

static int64_t stc_offset_us(void) {
    return sim_setting("MMALSIM_STC_OFFSET_US", 1234567891);
}

int64_t sim_stc_us(void) {
    return (int64_t)((double)sim_monotonic_ns() / 1e3 * stc_rate()) + stc_offset_us();
}

int64_t sim_stc_to_monotonic_ns(int64_t stc_us) {
    return (int64_t)((double)(stc_us - stc_offset_us()) / stc_rate() * 1e3);
}

struct timespec sim_timespec(int64_t ns) {
    return (struct timespec){(time_t)(ns / 1000000000), (long)(ns % 1000000000)};
}

void sim_cond_init(pthread_cond_t *condition) {
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* A simulation that runs out of memory has nothing sensible left to simulate. */
void *sim_alloc(size_t size) {
    void *memory = calloc(1, size);
    if (!memory) abort();
    return memory;
}

/* For the test that compares them with what picamera declares: without parameter headers. */
const uint32_t sim_sizes[] = {
    sizeof(MMAL_VIDEO_FORMAT_T), sizeof(MMAL_ES_FORMAT_T), sizeof(MMAL_BUFFER_HEADER_T), sizeof(MMAL_POOL_T),
    sizeof(MMAL_PORT_T), sizeof(MMAL_COMPONENT_T), sizeof(MMAL_CONNECTION_T), sizeof(CAMERA_CONFIG_T),
    sizeof(CAMERA_SETTINGS_T), sizeof(CAMERA_INFO_T), sizeof(CAMERA_ANNOTATE_V3_T), sizeof(STEREOSCOPIC_MODE_T),
    sizeof(FPS_RANGE_T), sizeof(AWB_GAINS_T),
};
