/* The camera. The sensor thread makes frames on the exact grid of the sensor's rate, whatever becomes of them;
   the delivery thread runs the client's callbacks, as the firmware's service thread does. */
#define _GNU_SOURCE
#include "sim.h"

#include <stdlib.h>
#include <string.h>

enum { VIDEO_PORT = 1, STILL_PORT = 2 };

/* So long is the firmware silent before it tells the client that the sensor has gone. */
static const int64_t UNPLUG_TOLD_AFTER_NS = 1000000000;
static const int64_t FIRST_FRAME_AFTER_US = 20000;

struct sim_camera {
    MMAL_COMPONENT_T *component;
    sim_world world;
    pthread_t sensor_thread, delivery_thread;
    pthread_cond_t wake;            /* the sensor thread: a buffer came, or it is time to end */
    bool running, gone, told;
    int64_t gone_since_ns;

    MMAL_RATIONAL_T rate;           /* the sensor's, in fact */
    int64_t readout_us;
    int64_t grid_start_us;          /* STC */
    int64_t grid_index;
    int64_t reset_base_us;          /* STC of the first frame of this recording; INT64_MIN: none yet */

    MMAL_QUEUE_T *outbox;           /* filled buffers on their way to callbacks */
    MMAL_BUFFER_HEADER_T last_post; /* tells the delivery thread to end */
    MMAL_POOL_T *events;
};

/* ---- what the client has set ---- */

static void *setting(const sim_camera *camera, uint32_t id) {
    return sim_parameter_value(camera->component->control, id);
}

static unsigned number_of(const sim_camera *camera) {
    return (unsigned)*(int32_t *)setting(camera, MMAL_PARAMETER_CAMERA_NUM);
}

static sim_camera_state *state_of(const sim_camera *camera) {
    return &camera->world.state->camera[number_of(camera)];
}

static STEREOSCOPIC_MODE_T *stereo_of(const MMAL_PORT_T *source) {
    return sim_parameter_value(source, MMAL_PARAMETER_STEREOSCOPIC_MODE);
}

static bool capturing(const sim_camera *camera, unsigned port) {
    return *(MMAL_BOOL_T *)sim_parameter_value(camera->component->output[port], MMAL_PARAMETER_CAPTURE);
}

static MMAL_RATIONAL_T asked_rate(const sim_camera *camera) {
    const MMAL_PORT_T *video = camera->component->output[VIDEO_PORT];
    MMAL_RATIONAL_T rate = *(MMAL_RATIONAL_T *)sim_parameter_value(video, MMAL_PARAMETER_FRAME_RATE);
    if (rate.num <= 0) rate = ((FPS_RANGE_T *)sim_parameter_value(video, MMAL_PARAMETER_FPS_RANGE))->high;
    return rate.num > 0 && rate.den > 0 ? rate : (MMAL_RATIONAL_T){30, 1};
}

/* The sensor runs at the asked rate where its mode can, and at its fastest where not; nobody is told. */
static void choose_rate(sim_camera *camera) {
    const MMAL_PORT_T *video = camera->component->output[VIDEO_PORT];
    const MMAL_RECT_T *crop = &video->format->es->video.crop;
    uint32_t stereo = stereo_of(video)->mode;
    unsigned width = (unsigned)crop->width / (stereo == MMAL_STEREOSCOPIC_MODE_SIDE_BY_SIDE ? 2 : 1);
    unsigned height = (unsigned)crop->height / (stereo == MMAL_STEREOSCOPIC_MODE_BOTTOM ? 2 : 1);
    MMAL_RATIONAL_T asked = asked_rate(camera);
    uint32_t wanted = *(uint32_t *)setting(camera, MMAL_PARAMETER_CAMERA_CUSTOM_SENSOR_CONFIG);
    const sim_sensor_mode *mode = sim_choose_mode(sim_sensor_attached(), wanted, width, height, asked);
    bool too_fast = (int64_t)asked.num * mode->fastest.den > (int64_t)mode->fastest.num * asked.den;
    camera->rate = too_fast ? mode->fastest : asked;
    camera->readout_us = 1000000LL * mode->fastest.den / mode->fastest.num;
    state_of(camera)->rate_mhz = (uint32_t)(1000LL * camera->rate.num / camera->rate.den);
}

/* The grid is exact, rounded to microseconds. A real sensor's period is off by its own oscillator, and the moment
   of the stamp by what else the firmware has to do: both only on request, the same in every run. */
static int64_t grid_us(const sim_camera *camera) {
    int64_t since_start = (camera->grid_index * 1000000 * camera->rate.den + camera->rate.num / 2) / camera->rate.num;
    long slower_ppm = sim_setting("MMALSIM_SLOWER_PPM", 0), jitter_us = sim_setting("MMALSIM_JITTER_US", 0);
    uint32_t random = (uint32_t)(camera->grid_index + 1) * 2654435761u >> 8;
    if (slower_ppm) since_start += (int64_t)((double)since_start * (double)slower_ppm / 1e6);
    if (jitter_us) since_start += (int64_t)(random % (uint32_t)(2 * jitter_us + 1)) - jitter_us;
    return camera->grid_start_us + since_start;
}

/* A rate that changes while the sensor runs counts from the next frame on. */
static void start_grid(sim_camera *camera, int64_t start_us) {
    choose_rate(camera);
    camera->grid_start_us = start_us;
    camera->grid_index = 0;
}

static int64_t pts_of(sim_camera *camera, int64_t stc_us) {
    uint32_t mode = ((CAMERA_CONFIG_T *)setting(camera, MMAL_PARAMETER_CAMERA_CONFIG))->use_stc_timestamp;
    if (mode == MMAL_PARAM_TIMESTAMP_MODE_RAW_STC) return stc_us;
    if (mode == MMAL_PARAM_TIMESTAMP_MODE_ZERO) return 0;
    if (camera->reset_base_us == INT64_MIN) camera->reset_base_us = stc_us;
    return stc_us - camera->reset_base_us;
}

/* ---- what a frame of a port looks like ---- */

/* Which part of the sensor's field of view is seen: the largest of the picture's own proportions around the
   centre, and of that what is zoomed in on. Decimated eyes have the proportions of the whole frame, squeezed. */
static void field_of_view(const sim_camera *camera, const MMAL_PORT_T *source, sim_view *view) {
    const sim_sensor *sensor = sim_sensor_attached();
    const MMAL_RECT_T *crop = &source->format->es->video.crop, *zoom = setting(camera, MMAL_PARAMETER_INPUT_CROP);
    bool decimate = stereo_of(source)->decimate;
    float width = (float)crop->width / (float)(decimate ? 1 : view->eyes_x);
    float height = (float)crop->height / (float)(decimate ? 1 : view->eyes_y);
    float aspect = view->rotation % 180 ? height / width : width / height;
    float ratio = aspect * (float)sensor->height / (float)sensor->width;
    float shown_x = ratio < 1 ? ratio : 1, shown_y = ratio > 1 ? 1 / ratio : 1;
    view->field[0] = (1 - shown_x) / 2 + shown_x * (float)zoom->x / 65535;
    view->field[1] = (1 - shown_y) / 2 + shown_y * (float)zoom->y / 65535;
    view->field[2] = shown_x * (float)zoom->width / 65535;
    view->field[3] = shown_y * (float)zoom->height / 65535;
}

static void view_of(const sim_camera *camera, const MMAL_PORT_T *port, sim_view *view) {
    const MMAL_PORT_T *source = port->priv->source;
    const STEREOSCOPIC_MODE_T *stereo = stereo_of(source);
    MMAL_RATIONAL_T *brightness = setting(camera, MMAL_PARAMETER_BRIGHTNESS);
    MMAL_RATIONAL_T *contrast = setting(camera, MMAL_PARAMETER_CONTRAST);
    memset(view, 0, sizeof *view);              /* views are compared byte by byte */
    sim_frame_layout(port, view);
    view->stereo = stereo->mode != MMAL_STEREOSCOPIC_MODE_NONE;
    view->eyes_x = stereo->mode == MMAL_STEREOSCOPIC_MODE_SIDE_BY_SIDE ? 2 : 1;
    view->eyes_y = stereo->mode == MMAL_STEREOSCOPIC_MODE_BOTTOM ? 2 : 1;
    /* Camera number 1 as the first of the pair swaps the two, says a firmware engineer (picamera issue 734). */
    view->swap_eyes = (stereo->swap_eyes != 0) ^ (number_of(camera) == 1);
    view->mirror = *(uint32_t *)sim_parameter_value(source, MMAL_PARAMETER_MIRROR);
    view->rotation = (unsigned)*(int32_t *)sim_parameter_value(source, MMAL_PARAMETER_ROTATION);
    view->brightness = (float)brightness->num / (float)brightness->den - 0.5f;
    view->contrast = 1 + (float)contrast->num / (float)contrast->den;
    field_of_view(camera, source, view);
}

/* ---- frames on their way to the client ---- */

static void post(sim_camera *camera, MMAL_PORT_T *port, MMAL_BUFFER_HEADER_T *buffer) {
    buffer->priv->port = port;
    port->priv->in_flight++;
    mmal_queue_put(camera->outbox, buffer);
}

/* Raw frames fill one buffer, or as many as it takes where the client has made them smaller. */
static void fill(sim_camera *camera, MMAL_PORT_T *port, MMAL_BUFFER_HEADER_T *buffer) {
    struct MMAL_PORT_PRIVATE_T *priv = port->priv;
    const sim_frame *frame = &priv->waiting[0];
    sim_view view;
    view_of(camera, port, &view);
    size_t total = sim_frame_bytes(&view), left = total - priv->sent;
    size_t length = left < buffer->alloc_size ? left : buffer->alloc_size;
    if (length == total) {
        sim_paint(&priv->picture, &view, frame->number, buffer->data);
    } else {
        if (!priv->sent) {
            free(priv->scratch);
            priv->scratch = sim_alloc(total);
            sim_paint(&priv->picture, &view, frame->number, priv->scratch);
        }
        memcpy(buffer->data, priv->scratch + priv->sent, length);
    }
    mmal_buffer_header_reset(buffer);
    buffer->length = (uint32_t)length;
    buffer->pts = buffer->dts = frame->pts_us;
    buffer->flags = (priv->sent ? 0u : MMAL_BUFFER_HEADER_FLAG_FRAME_START)
                    | (length == left ? MMAL_BUFFER_HEADER_FLAG_FRAME_END : 0u);
    buffer->priv->frame = *frame;
    priv->sent += length;
    if (length == left) {
        priv->sent = 0;
        memmove(priv->waiting, priv->waiting + 1, --priv->waiting_count * sizeof *priv->waiting);
    }
    post(camera, port, buffer);
}

typedef void (*visitor)(sim_camera *camera, MMAL_PORT_T *client, const sim_frame *frame);

/* Follow the connections from a port of the camera to every port at which a client waits. */
static void visit(sim_camera *camera, MMAL_PORT_T *source, MMAL_PORT_T *port, visitor call, const sim_frame *frame) {
    if (!port->is_enabled) return;
    if (port->priv->peer) {
        MMAL_COMPONENT_T *next = port->priv->peer->component;
        for (uint32_t i = 0; i < next->output_num; i++) visit(camera, source, next->output[i], call, frame);
    } else if (port->priv->callback) {
        port->priv->source = source;
        call(camera, port, frame);
    }
}

static void serve(sim_camera *camera, MMAL_PORT_T *client, const sim_frame *frame) {
    (void)frame;
    for (MMAL_BUFFER_HEADER_T *buffer; client->priv->waiting_count;) {
        if (!(buffer = mmal_queue_get(client->priv->buffers))) return;
        fill(camera, client, buffer);
    }
}

/* The firmware has a few frames of its own (num_preview_video_frames); when the client has not brought back a
   buffer by the time they are all waiting, the next frame has nowhere to go. */
static unsigned frames_that_can_wait(const sim_camera *camera) {
    CAMERA_CONFIG_T *config = setting(camera, MMAL_PARAMETER_CAMERA_CONFIG);
    long frames = sim_setting("MMALSIM_FRAMES", (long)config->num_preview_video_frames);
    return frames < 1 ? 1 : frames > SIM_MOST_WAITING ? SIM_MOST_WAITING : (unsigned)frames;
}

static void offer(sim_camera *camera, MMAL_PORT_T *client, const sim_frame *frame) {
    sim_camera_state *state = state_of(camera);
    state->offered++;
    if (client->priv->waiting_count < frames_that_can_wait(camera)) {
        client->priv->waiting[client->priv->waiting_count++] = *frame;
        serve(camera, client, frame);
    } else {
        state->no_buffer++;
        sim_log(&camera->world, number_of(camera), frame->number, frame->stc_us, client, "no_buffer");
    }
}

void sim_port_wants(MMAL_PORT_T *port) {
    if (port->priv->waiting_count) pthread_cond_signal(&port->priv->source->component->priv->camera->wake);
}

/* Nothing more reaches the client's callback once its port is off, except what was on the way already. */
void sim_port_drain(MMAL_PORT_T *port) {
    struct MMAL_PORT_PRIVATE_T *priv = port->priv;
    /* Only where frames are pending is the camera sure to live still. */
    bool pending = priv->waiting_count || priv->in_flight;
    sim_camera *camera = (priv->source && pending ? priv->source : port)->component->priv->camera;
    for (unsigned i = 0; i < priv->waiting_count; i++) {
        state_of(camera)->flushed++;
        sim_log(&camera->world, number_of(camera), priv->waiting[i].number, priv->waiting[i].stc_us, port, "flushed");
    }
    priv->waiting_count = 0;
    priv->sent = 0;
    if (camera && pthread_equal(pthread_self(), camera->delivery_thread)) return;
    while (priv->in_flight) pthread_cond_wait(&sim_delivered, &sim_lock);
}

/* ---- the delivery thread ---- */

static void deliver(sim_camera *camera, MMAL_BUFFER_HEADER_T *buffer) {
    MMAL_PORT_T *port = buffer->priv->port;
    sim_frame frame = buffer->priv->frame;
    pthread_mutex_lock(&sim_lock);
    MMAL_PORT_BH_CB_T callback = port->priv->callback;
    if (!buffer->cmd && buffer->flags & MMAL_BUFFER_HEADER_FLAG_FRAME_END) {
        sim_camera_state *state = state_of(camera);
        if (port->is_enabled) state->delivered++;
        else state->flushed++;
        sim_log(&camera->world, number_of(camera), frame.number, frame.stc_us, port,
                port->is_enabled ? "delivered" : "flushed");
    }
    pthread_mutex_unlock(&sim_lock);

    if (callback) callback(port, buffer);
    else mmal_buffer_header_release(buffer);

    pthread_mutex_lock(&sim_lock);
    port->priv->in_flight--;
    pthread_cond_broadcast(&sim_delivered);
    pthread_mutex_unlock(&sim_lock);
}

static void *delivery_main(void *argument) {
    sim_camera *camera = argument;
    for (MMAL_BUFFER_HEADER_T *buffer; (buffer = mmal_queue_wait(camera->outbox)) != &camera->last_post;)
        deliver(camera, buffer);
    return NULL;
}

/* ---- the sensor thread ---- */

/* What picamera makes of it: "No data received from sensor. Check all connections". */
static void tell_that_it_is_gone(sim_camera *camera) {
    MMAL_BUFFER_HEADER_T *event = mmal_queue_get(camera->events->queue);
    if (!event) return;
    event->cmd = MMAL_EVENT_ERROR;
    event->length = sizeof(uint32_t);
    memcpy(event->data, &(uint32_t){MMAL_EIO}, sizeof(uint32_t));
    camera->told = true;
    post(camera, camera->component->control, event);
}

static bool sensor_works(sim_camera *camera, const sim_camera_state *state) {
    if (state->unplug && !camera->gone) {
        camera->gone = true;
        camera->gone_since_ns = sim_monotonic_ns();
    }
    if (camera->gone && !camera->told && camera->component->control->is_enabled
        && sim_monotonic_ns() - camera->gone_since_ns > UNPLUG_TOLD_AFTER_NS)
        tell_that_it_is_gone(camera);
    return !camera->gone && !state->stall;
}

static void make_frame(sim_camera *camera) {
    sim_camera_state *state = state_of(camera);
    MMAL_PORT_T **output = camera->component->output;
    sim_frame frame = {.stc_us = grid_us(camera)};
    camera->grid_index++;
    if (!sensor_works(camera, state)) return;
    frame.number = state->made++;
    state->last_stc_us = frame.stc_us;
    bool video = capturing(camera, VIDEO_PORT), still = capturing(camera, STILL_PORT);
    if (!video && !still) return;
    frame.pts_us = pts_of(camera, frame.stc_us);
    if (state->swallow_every && frame.number % state->swallow_every == 0) {
        state->swallowed++;
        sim_log(&camera->world, number_of(camera), frame.number, frame.stc_us, NULL, "swallowed");
        return;
    }
    if (video) visit(camera, output[VIDEO_PORT], output[VIDEO_PORT], offer, &frame);
    if (still) {
        *(MMAL_BOOL_T *)sim_parameter_value(output[STILL_PORT], MMAL_PARAMETER_CAPTURE) = 0;
        visit(camera, output[STILL_PORT], output[STILL_PORT], offer, &frame);
    }
}

/* A frame is there when it has been read out; its timestamp is of its start. */
static int64_t next_ready_ns(const sim_camera *camera) {
    return sim_stc_to_monotonic_ns(grid_us(camera) + camera->readout_us);
}

static void *sensor_main(void *argument) {
    sim_camera *camera = argument;
    pthread_mutex_lock(&sim_lock);
    while (camera->running) {
        for (unsigned i = VIDEO_PORT; i <= STILL_PORT; i++)
            visit(camera, camera->component->output[i], camera->component->output[i], serve, NULL);
        int64_t ready = next_ready_ns(camera);
        struct timespec until = sim_timespec(ready);
        if (sim_monotonic_ns() >= ready) make_frame(camera);
        else pthread_cond_timedwait(&camera->wake, &sim_lock, &until);
    }
    pthread_mutex_unlock(&sim_lock);
    return NULL;
}

/* ---- life ---- */

sim_camera *sim_camera_create(MMAL_COMPONENT_T *component) {
    sim_camera *camera = sim_alloc(sizeof *camera);
    camera->component = component;
    camera->world = sim_world_open();
    camera->outbox = mmal_queue_create();
    camera->events = mmal_pool_create(1, 64);
    camera->reset_base_us = INT64_MIN;
    sim_cond_init(&camera->wake);
    return camera;
}

void sim_camera_destroy(sim_camera *camera) {
    sim_world_close(&camera->world);
    mmal_queue_destroy(camera->outbox);
    mmal_pool_destroy(camera->events);
    pthread_cond_destroy(&camera->wake);
    free(camera);
}

static bool needs(const sim_camera *camera, unsigned number) {
    const MMAL_PORT_T *video = camera->component->output[VIDEO_PORT];
    return number == number_of(camera) || stereo_of(video)->mode != MMAL_STEREOSCOPIC_MODE_NONE;
}

MMAL_STATUS_T sim_camera_take(sim_camera *camera) {
    for (unsigned number = 0; number < SIM_CAMERAS; number++)
        if (needs(camera, number) && !sim_take_camera(&camera->world, number)) return MMAL_ENOSPC;
    return MMAL_SUCCESS;
}

/* A pair larger than one sensor "fails to enable: out of resources" (picamera issue 608). */
static bool pair_too_large(const sim_camera *camera) {
    const MMAL_PORT_T *video = camera->component->output[VIDEO_PORT];
    const MMAL_RECT_T *crop = &video->format->es->video.crop;
    const sim_sensor *sensor = sim_sensor_attached();
    return stereo_of(video)->mode != MMAL_STEREOSCOPIC_MODE_NONE
           && (crop->width > (int)sensor->width || crop->height > (int)sensor->height);
}

MMAL_STATUS_T sim_camera_start(sim_camera *camera) {
    pthread_mutex_lock(&sim_lock);
    MMAL_STATUS_T status = pair_too_large(camera) ? MMAL_ENOSPC : sim_camera_take(camera);
    if (status == MMAL_SUCCESS && !camera->running) {
        camera->running = true;
        camera->gone = camera->told = false;
        start_grid(camera, sim_stc_us() + FIRST_FRAME_AFTER_US);
        if (pthread_create(&camera->sensor_thread, NULL, sensor_main, camera)
            || pthread_create(&camera->delivery_thread, NULL, delivery_main, camera)) abort();
    }
    pthread_mutex_unlock(&sim_lock);
    return status;
}

void sim_camera_stop(sim_camera *camera) {
    pthread_mutex_lock(&sim_lock);
    bool ran = camera->running;
    camera->running = false;
    pthread_cond_signal(&camera->wake);
    pthread_mutex_unlock(&sim_lock);
    if (ran) {
        pthread_join(camera->sensor_thread, NULL);
        mmal_queue_put(camera->outbox, &camera->last_post);
        pthread_join(camera->delivery_thread, NULL);
    }
    pthread_mutex_lock(&sim_lock);
    for (unsigned number = 0; number < SIM_CAMERAS; number++) sim_give_camera(&camera->world, number);
    pthread_mutex_unlock(&sim_lock);
}

/* ---- parameters that do more than be remembered ---- */

MMAL_STATUS_T sim_camera_set(MMAL_PORT_T *port, uint32_t id, const void *value) {
    sim_camera *camera = port->component->priv->camera;
    long cameras = sim_setting("MMALSIM_CAMERAS", 1);
    bool video = port == camera->component->output[VIDEO_PORT];
    switch (id) {
    case MMAL_PARAMETER_CAMERA_NUM:
        return *(const uint32_t *)value < SIM_CAMERAS && *(const int32_t *)value < cameras ? MMAL_SUCCESS : MMAL_EINVAL;
    case MMAL_PARAMETER_STEREOSCOPIC_MODE:
        return ((const STEREOSCOPIC_MODE_T *)value)->mode && cameras < 2 ? MMAL_EINVAL : MMAL_SUCCESS;
    case MMAL_PARAMETER_CAPTURE:
        if (video && !capturing(camera, VIDEO_PORT)) camera->reset_base_us = INT64_MIN;
        return MMAL_SUCCESS;
    case MMAL_PARAMETER_FRAME_RATE:
        *(MMAL_RATIONAL_T *)sim_parameter_value(port, id) = *(const MMAL_RATIONAL_T *)value;
        if (video && camera->running) start_grid(camera, grid_us(camera));
        return MMAL_SUCCESS;
    default:
        return MMAL_SUCCESS;
    }
}

/* What automatic exposure and white balance settle on is constant here; what is set by hand is reported as set. */
static CAMERA_SETTINGS_T settings_in_use(const sim_camera *camera) {
    uint32_t shutter = *(uint32_t *)setting(camera, MMAL_PARAMETER_SHUTTER_SPEED);
    uint32_t iso = *(uint32_t *)setting(camera, MMAL_PARAMETER_ISO);
    MMAL_RATIONAL_T analog = *(MMAL_RATIONAL_T *)setting(camera, MMAL_PARAMETER_ANALOG_GAIN);
    MMAL_RATIONAL_T digital = *(MMAL_RATIONAL_T *)setting(camera, MMAL_PARAMETER_DIGITAL_GAIN);
    AWB_GAINS_T gains = *(AWB_GAINS_T *)setting(camera, MMAL_PARAMETER_CUSTOM_AWB_GAINS);
    MMAL_RATIONAL_T rate = asked_rate(camera);
    uint32_t frame_us = (uint32_t)(1000000LL * rate.den / rate.num);
    uint32_t exposure = shutter ? shutter : 12000;
    if (!analog.num) analog = iso ? (MMAL_RATIONAL_T){(int32_t)(iso * 256 / 100), 256} : (MMAL_RATIONAL_T){512, 256};
    if (!digital.num) digital = (MMAL_RATIONAL_T){256, 256};
    if (*(uint32_t *)setting(camera, MMAL_PARAMETER_AWB_MODE))
        gains = (AWB_GAINS_T){{370, 256}, {307, 256}};
    return (CAMERA_SETTINGS_T){exposure < frame_us ? exposure : frame_us, analog, digital, gains.red, gains.blue, 0};
}

bool sim_camera_get(MMAL_PORT_T *port, uint32_t id, void *value, size_t size) {
    sim_camera *camera = port->component->priv->camera;
    if (port->type != MMAL_PORT_TYPE_CONTROL) return false;
    if (id == MMAL_PARAMETER_SYSTEM_TIME && size == sizeof(int64_t)) *(int64_t *)value = sim_stc_us();
    else if (id == MMAL_PARAMETER_CAMERA_SETTINGS && size == sizeof(CAMERA_SETTINGS_T))
        *(CAMERA_SETTINGS_T *)value = settings_in_use(camera);
    else return false;
    return true;
}
