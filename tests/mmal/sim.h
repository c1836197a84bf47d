/* What the simulation keeps behind MMAL's structures. One lock (sim_lock) guards all of it; it is never held
   while a client's callback runs, nor while a thread is joined. */
#ifndef SIM_H
#define SIM_H

#include "mmal.h"

#include <pthread.h>
#include <stdbool.h>
#include <time.h>

/* ---- state.c: the outside world: settings, faults, counters, the log, who holds the camera ---- */

enum { SIM_CAMERAS = 2 };

/* One camera's part of the state file; its layout is documented in README.md and read by mmal_kit.py. */
typedef struct {
    uint32_t stall, unplug, swallow_every, reserved;        /* faults: written by the test, read by the camera */
    uint32_t holder_pid, rate_mhz;                          /* the rest is written by the camera */
    uint64_t made, offered, delivered, no_buffer, swallowed, flushed;
    int64_t last_stc_us;
} sim_camera_state;

typedef struct {
    char magic[8];
    sim_camera_state camera[SIM_CAMERAS];
} sim_state;

typedef struct sim_world {
    sim_state *state;
    int log_fd;                     /* -1: no log */
    int lock_fd[SIM_CAMERAS];       /* -1: not held */
} sim_world;

sim_world sim_world_open(void);
void sim_world_close(sim_world *world);
void sim_log(const sim_world *world, unsigned camera, uint64_t frame, int64_t stc_us, const MMAL_PORT_T *port,
             const char *fate);
bool sim_take_camera(sim_world *world, unsigned camera);
void sim_give_camera(sim_world *world, unsigned camera);

long sim_setting(const char *name, long otherwise);
MMAL_STATUS_T sim_refusal(const char *step);

int64_t sim_monotonic_ns(void);
int64_t sim_stc_us(void);
int64_t sim_stc_to_monotonic_ns(int64_t stc_us);
struct timespec sim_timespec(int64_t ns);
void sim_cond_init(pthread_cond_t *condition);
void *sim_alloc(size_t size);

/* ---- sensors.c ---- */

typedef struct { unsigned width, height; MMAL_RATIONAL_T slowest, fastest; } sim_sensor_mode;

typedef struct {
    const char *name;
    unsigned width, height;
    unsigned mode_count;
    const sim_sensor_mode *modes;
} sim_sensor;

const sim_sensor *sim_sensor_attached(void);
const sim_sensor_mode *sim_choose_mode(const sim_sensor *sensor, unsigned number, unsigned width, unsigned height,
                                       MMAL_RATIONAL_T rate);

/* ---- picture.c ---- */

typedef struct {
    uint32_t encoding;
    unsigned width, height;         /* of the picture */
    unsigned stride, rows;          /* of the buffer, in pixels: padded */
    unsigned eyes_x, eyes_y;        /* 1, 1; side by side: 2, 1; top-bottom: 1, 2 */
    unsigned swap_eyes, stereo;
    unsigned mirror, rotation;
    float field[4];                 /* x, y, width, height of the sensor's field of view that each eye shows */
    float brightness, contrast;
} sim_view;

typedef struct {
    sim_view view;
    uint8_t *still;                 /* everything that does not move, already in the view's encoding */
} sim_picture;

size_t sim_frame_bytes(const sim_view *view);
void sim_paint(sim_picture *picture, const sim_view *view, uint64_t frame, uint8_t *out);
void sim_forget_picture(sim_picture *picture);

/* ---- camera.c ---- */

typedef struct sim_camera sim_camera;

sim_camera *sim_camera_create(MMAL_COMPONENT_T *component);
void sim_camera_destroy(sim_camera *camera);
MMAL_STATUS_T sim_camera_take(sim_camera *camera);
MMAL_STATUS_T sim_camera_start(sim_camera *camera);
void sim_camera_stop(sim_camera *camera);
MMAL_STATUS_T sim_camera_set(MMAL_PORT_T *port, uint32_t id, const void *value);
bool sim_camera_get(MMAL_PORT_T *port, uint32_t id, void *value, size_t size);
void sim_port_wants(MMAL_PORT_T *port);
void sim_port_drain(MMAL_PORT_T *port);

/* ---- parameter.c ---- */

typedef struct sim_parameter {
    struct sim_parameter *next;
    uint32_t id, size;
    void *value;
} sim_parameter;

void sim_parameters_create(MMAL_PORT_T *port);
void sim_parameters_destroy(MMAL_PORT_T *port);
void *sim_parameter_value(const MMAL_PORT_T *port, uint32_t id);

/* ---- port.c, component.c ---- */

typedef enum { KIND_CAMERA, KIND_CAMERA_INFO, KIND_SPLITTER, KIND_NULL_SINK, KIND_RESIZER } sim_kind;

struct MMAL_COMPONENT_PRIVATE_T {
    sim_kind kind;
    sim_camera *camera;             /* KIND_CAMERA only */
};

typedef struct { uint64_t number; int64_t stc_us, pts_us; } sim_frame;

enum { SIM_MOST_WAITING = 256 };

struct MMAL_PORT_PRIVATE_T {
    MMAL_PORT_BH_CB_T callback;     /* NULL: connected, or off */
    MMAL_QUEUE_T *buffers;          /* empty ones, sent by the client */
    MMAL_PORT_T *peer;              /* the other end of an enabled connection */
    sim_parameter *parameters;
    MMAL_ES_SPECIFIC_FORMAT_T es;
    unsigned in_flight;             /* filled buffers whose callback has not returned yet */

    MMAL_PORT_T *source;            /* the camera's port from which the frames come */
    sim_frame waiting[SIM_MOST_WAITING];
    unsigned waiting_count;
    size_t sent;                    /* bytes of waiting[0] that have gone in earlier buffers */
    sim_picture picture;
    uint8_t *scratch;               /* a whole frame, when buffers are smaller than one */
};

struct MMAL_BUFFER_HEADER_PRIVATE_T {
    MMAL_POOL_T *pool;
    unsigned holders;
    MMAL_PORT_T *port;              /* where it is being delivered */
    sim_frame frame;
};

extern pthread_mutex_t sim_lock;
extern pthread_cond_t sim_delivered;    /* some port's in_flight went down */

MMAL_PORT_T *sim_port_create(MMAL_COMPONENT_T *component, unsigned type, unsigned index);
void sim_port_destroy(MMAL_PORT_T *port);
bool sim_old_firmware(void);
unsigned sim_encodings(const MMAL_PORT_T *port, uint32_t encodings[8]);
void sim_frame_layout(const MMAL_PORT_T *port, sim_view *view);

#endif
