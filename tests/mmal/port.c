/* Ports: their formats, and buffers going in and coming out. */
#define _GNU_SOURCE
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

pthread_mutex_t sim_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sim_delivered = PTHREAD_COND_INITIALIZER;

/* ---- formats ---- */

static unsigned align_up(unsigned value, unsigned to) {
    return (value + to - 1) / to * to;
}

bool sim_old_firmware(void) {
    return sim_setting("MMALSIM_OLD_FIRMWARE", 0) != 0;
}

/* RGB24 before BGR24: the sign by which picamera knows firmware that does not mix the two up. */
unsigned sim_encodings(const MMAL_PORT_T *port, uint32_t encodings[8]) {
    static const uint32_t ALL[] = {MMAL_ENCODING_I420, MMAL_ENCODING_RGB24, MMAL_ENCODING_RGBA, MMAL_ENCODING_BGR24,
                                   MMAL_ENCODING_BGRA};
    static const uint32_t RESIZER[] = {MMAL_ENCODING_RGBA, MMAL_ENCODING_BGRA, MMAL_ENCODING_I420};
    bool resizer = port->component->priv->kind == KIND_RESIZER;
    unsigned count = resizer ? 3 : sim_old_firmware() ? 1 : 5;
    memcpy(encodings, resizer ? RESIZER : ALL, count * sizeof *encodings);
    return count;
}

static bool encoding_known(const MMAL_PORT_T *port) {
    uint32_t encodings[8];
    unsigned count = sim_encodings(port, encodings);
    for (unsigned i = 0; i < count; i++)
        if (encodings[i] == port->format->encoding) return true;
    return port->format->encoding == MMAL_ENCODING_OPAQUE && port->component->priv->kind != KIND_RESIZER;
}

/* The padding of raw frames, as PiRawMixin in picamera's encoders.py expects it: 32x16, but 16x16 for RGB that
   comes straight from the splitter. */
void sim_frame_layout(const MMAL_PORT_T *port, sim_view *view) {
    const MMAL_VIDEO_FORMAT_T *video = &port->format->es->video;
    bool narrow = port->component->priv->kind == KIND_SPLITTER && port->format->encoding != MMAL_ENCODING_I420;
    view->encoding = port->format->encoding;
    view->width = video->crop.width > 0 ? (unsigned)video->crop.width : video->width;
    view->height = video->crop.height > 0 ? (unsigned)video->crop.height : video->height;
    view->stride = align_up(view->width, narrow ? 16 : 32);
    view->rows = align_up(view->height, 16);
}

/* Raw ports ask for one buffer, opaque ones for ten of 128 bytes: so picamera's documentation shows real ones. */
static void recommend_buffers(MMAL_PORT_T *port) {
    sim_view view;
    sim_frame_layout(port, &view);
    bool opaque = port->format->encoding == MMAL_ENCODING_OPAQUE;
    size_t size = opaque ? 128 : (size_t)sim_setting("MMALSIM_BUFFER_BYTES", (long)sim_frame_bytes(&view));
    port->buffer_num_min = port->buffer_num_recommended = opaque ? 10 : 1;
    port->buffer_size_min = port->buffer_size_recommended = (uint32_t)size;
}

static void copy_format(MMAL_ES_FORMAT_T *to, const MMAL_ES_FORMAT_T *from) {
    MMAL_ES_SPECIFIC_FORMAT_T *es = to->es;
    *to = *from;
    to->es = es;
    *to->es = *from->es;
    to->extradata = NULL;
    to->extradata_size = 0;
}

void mmal_format_copy(MMAL_ES_FORMAT_T *to, MMAL_ES_FORMAT_T *from) {
    pthread_mutex_lock(&sim_lock);
    copy_format(to, from);
    pthread_mutex_unlock(&sim_lock);
}

/* A camera alone cannot make more pixels than its sensor has. In stereo nothing is refused yet: there the
   firmware complains when it is started (see sim_camera_take). */
static bool fits_sensor(const MMAL_PORT_T *port) {
    if (port->component->priv->kind != KIND_CAMERA) return true;
    STEREOSCOPIC_MODE_T *stereo = sim_parameter_value(port, MMAL_PARAMETER_STEREOSCOPIC_MODE);
    const sim_sensor *sensor = sim_sensor_attached();
    const MMAL_RECT_T *crop = &port->format->es->video.crop;
    return stereo->mode != MMAL_STEREOSCOPIC_MODE_NONE
           || (crop->width <= (int)sensor->width && crop->height <= (int)sensor->height);
}

MMAL_STATUS_T mmal_port_format_commit(MMAL_PORT_T *port) {
    pthread_mutex_lock(&sim_lock);
    bool good = encoding_known(port) && fits_sensor(port);
    if (good) {
        MMAL_COMPONENT_T *component = port->component;
        recommend_buffers(port);
        if (component->priv->kind == KIND_CAMERA) {
            MMAL_RATIONAL_T *rate = sim_parameter_value(port, MMAL_PARAMETER_FRAME_RATE);
            *rate = port->format->es->video.frame_rate;
        }
        /* The splitter hands its input format to the outputs that are not in use. */
        for (uint32_t i = 0; component->priv->kind == KIND_SPLITTER && port->type == MMAL_PORT_TYPE_INPUT && i < 4; i++)
            if (!component->output[i]->is_enabled) {
                copy_format(component->output[i]->format, port->format);
                recommend_buffers(component->output[i]);
            }
    }
    pthread_mutex_unlock(&sim_lock);
    return good ? MMAL_SUCCESS : MMAL_EINVAL;
}

/* ---- buffers ---- */

MMAL_STATUS_T mmal_port_enable(MMAL_PORT_T *port, MMAL_PORT_BH_CB_T callback) {
    MMAL_STATUS_T status = sim_refusal("port");
    if (status != MMAL_SUCCESS && port->type == MMAL_PORT_TYPE_OUTPUT) return status;
    pthread_mutex_lock(&sim_lock);
    status = port->is_enabled ? MMAL_EINVAL : MMAL_SUCCESS;
    if (status == MMAL_SUCCESS) {
        port->is_enabled = 1;
        port->priv->callback = callback;
    }
    pthread_mutex_unlock(&sim_lock);
    return status;
}

/* Empty buffers go back to the client through its callback, with length 0, as when a real port is flushed. */
static void return_buffers(MMAL_PORT_T *port, MMAL_PORT_BH_CB_T callback) {
    for (MMAL_BUFFER_HEADER_T *buffer; (buffer = mmal_queue_get(port->priv->buffers));) {
        mmal_buffer_header_reset(buffer);
        if (callback) callback(port, buffer);
        else mmal_buffer_header_release(buffer);
    }
}

MMAL_STATUS_T mmal_port_disable(MMAL_PORT_T *port) {
    pthread_mutex_lock(&sim_lock);
    MMAL_PORT_BH_CB_T callback = port->priv->callback;
    MMAL_STATUS_T status = port->is_enabled ? MMAL_SUCCESS : MMAL_EINVAL;
    port->is_enabled = 0;
    sim_port_drain(port);
    port->priv->callback = NULL;
    pthread_mutex_unlock(&sim_lock);
    return_buffers(port, callback);
    return status;
}

MMAL_STATUS_T mmal_port_flush(MMAL_PORT_T *port) {
    pthread_mutex_lock(&sim_lock);
    MMAL_PORT_BH_CB_T callback = port->priv->callback;
    pthread_mutex_unlock(&sim_lock);
    return_buffers(port, callback);
    return MMAL_SUCCESS;
}

MMAL_STATUS_T mmal_port_send_buffer(MMAL_PORT_T *port, MMAL_BUFFER_HEADER_T *buffer) {
    pthread_mutex_lock(&sim_lock);
    bool open = port->is_enabled;
    if (open) {
        mmal_queue_put(port->priv->buffers, buffer);
        sim_port_wants(port);
    }
    pthread_mutex_unlock(&sim_lock);
    return open ? MMAL_SUCCESS : MMAL_EINVAL;
}

/* ---- birth and death ---- */

MMAL_PORT_T *sim_port_create(MMAL_COMPONENT_T *component, unsigned type, unsigned index) {
    static const char *const SHORT[] = {"", "ctr", "in", "out"};
    char name[96];
    MMAL_PORT_T *port = sim_alloc(sizeof *port);
    snprintf(name, sizeof name, "%s:%s:%u", component->name, SHORT[type], index);
    port->name = strdup(name);
    port->type = type;
    port->index = (uint16_t)index;
    port->component = component;
    port->priv = sim_alloc(sizeof *port->priv);
    port->priv->buffers = mmal_queue_create();
    port->priv->es.video.frame_rate.den = 1;
    port->format = sim_alloc(sizeof *port->format);
    port->format->es = &port->priv->es;
    port->format->type = type == MMAL_PORT_TYPE_CONTROL ? MMAL_ES_TYPE_CONTROL : MMAL_ES_TYPE_VIDEO;
    port->format->encoding = MMAL_ENCODING_I420;
    port->buffer_num = port->buffer_num_min = 1;
    sim_parameters_create(port);
    return port;
}

void sim_port_destroy(MMAL_PORT_T *port) {
    mmal_port_disable(port);
    sim_parameters_destroy(port);
    sim_forget_picture(&port->priv->picture);
    mmal_queue_destroy(port->priv->buffers);
    free(port->priv->scratch);
    free(port->priv);
    free(port->format);
    free((char *)port->name);
    free(port);
}
