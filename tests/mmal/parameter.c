/* Parameters: a store per port, with the firmware's initial values, of those that PiCamera uses. What is not in
   the tables is refused. The camera gets told of each change (sim_camera_set) and answers for some of them. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define WORD sizeof(uint32_t)
#define RATIONAL sizeof(MMAL_RATIONAL_T)

typedef struct { uint32_t id, size; int32_t initial[4]; } sim_parameter_kind;

static const sim_parameter_kind OF_CAMERA_CONTROL[] = {
    {MMAL_PARAMETER_ANNOTATE, sizeof(CAMERA_ANNOTATE_V3_T), {0}},
    {MMAL_PARAMETER_CAMERA_CONFIG, sizeof(CAMERA_CONFIG_T), {0}},
    {MMAL_PARAMETER_CAMERA_NUM, WORD, {0}},
    {MMAL_PARAMETER_CAMERA_CUSTOM_SENSOR_CONFIG, WORD, {0}},
    {MMAL_PARAMETER_CAPTURE_STATS_PASS, WORD, {0}},
    {MMAL_PARAMETER_SATURATION, RATIONAL, {0, 100}},
    {MMAL_PARAMETER_SHARPNESS, RATIONAL, {0, 100}},
    {MMAL_PARAMETER_CONTRAST, RATIONAL, {0, 100}},
    {MMAL_PARAMETER_BRIGHTNESS, RATIONAL, {50, 100}},
    {MMAL_PARAMETER_SHUTTER_SPEED, WORD, {0}},
    {MMAL_PARAMETER_VIDEO_DENOISE, WORD, {1}},
    {MMAL_PARAMETER_STILLS_DENOISE, WORD, {1}},
    {MMAL_PARAMETER_DYNAMIC_RANGE_COMPRESSION, WORD, {0}},
    {MMAL_PARAMETER_ISO, WORD, {0}},
    {MMAL_PARAMETER_EXP_METERING_MODE, WORD, {0}},
    {MMAL_PARAMETER_VIDEO_STABILISATION, WORD, {0}},
    {MMAL_PARAMETER_EXPOSURE_COMP, WORD, {0}},
    {MMAL_PARAMETER_EXPOSURE_MODE, WORD, {1}},
    {MMAL_PARAMETER_FLASH, WORD, {0}},
    {MMAL_PARAMETER_AWB_MODE, WORD, {1}},
    {MMAL_PARAMETER_CUSTOM_AWB_GAINS, sizeof(AWB_GAINS_T), {0, 1, 0, 1}},
    {MMAL_PARAMETER_IMAGE_EFFECT, WORD, {0}},
    {MMAL_PARAMETER_IMAGE_EFFECT_PARAMETERS, 8 * WORD, {0}},
    {MMAL_PARAMETER_COLOUR_EFFECT, 3 * WORD, {0, 128, 128}},
    {MMAL_PARAMETER_INPUT_CROP, sizeof(MMAL_RECT_T), {0, 0, 65535, 65535}},
    {MMAL_PARAMETER_ANALOG_GAIN, RATIONAL, {0, 65536}},
    {MMAL_PARAMETER_DIGITAL_GAIN, RATIONAL, {0, 65536}},
};

static const sim_parameter_kind OF_CAMERA_OUTPUT[] = {
    {MMAL_PARAMETER_CAPTURE, WORD, {0}},
    {MMAL_PARAMETER_CAMERA_BURST_CAPTURE, WORD, {0}},
    {MMAL_PARAMETER_ROTATION, WORD, {0}},
    {MMAL_PARAMETER_MIRROR, WORD, {0}},
    {MMAL_PARAMETER_FPS_RANGE, sizeof(FPS_RANGE_T), {0, 1, 0, 1}},
    {MMAL_PARAMETER_FRAME_RATE, RATIONAL, {0, 1}},
    {MMAL_PARAMETER_STEREOSCOPIC_MODE, sizeof(STEREOSCOPIC_MODE_T), {0}},
    {MMAL_PARAMETER_ZERO_COPY, WORD, {0}},
};

static const sim_parameter_kind OF_OTHERS[] = {
    {MMAL_PARAMETER_ZERO_COPY, WORD, {0}},
};

void sim_parameters_create(MMAL_PORT_T *port) {
    bool camera = port->component->priv->kind == KIND_CAMERA, control = port->type == MMAL_PORT_TYPE_CONTROL;
    const sim_parameter_kind *kinds = !camera ? OF_OTHERS : control ? OF_CAMERA_CONTROL : OF_CAMERA_OUTPUT;
    size_t count = !camera ? COUNT(OF_OTHERS) : control ? COUNT(OF_CAMERA_CONTROL) : COUNT(OF_CAMERA_OUTPUT);
    for (size_t i = 0; i < count; i++) {
        sim_parameter *parameter = sim_alloc(sizeof *parameter);
        size_t known = kinds[i].size < sizeof kinds[i].initial ? kinds[i].size : sizeof kinds[i].initial;
        parameter->id = kinds[i].id;
        parameter->size = kinds[i].size;
        parameter->value = sim_alloc(kinds[i].size);
        memcpy(parameter->value, kinds[i].initial, known);
        parameter->next = port->priv->parameters;
        port->priv->parameters = parameter;
    }
}

void sim_parameters_destroy(MMAL_PORT_T *port) {
    for (sim_parameter *next, *parameter = port->priv->parameters; parameter; parameter = next) {
        next = parameter->next;
        free(parameter->value);
        free(parameter);
    }
}

static sim_parameter *find(const MMAL_PORT_T *port, uint32_t id) {
    sim_parameter *parameter = port->priv->parameters;
    while (parameter && parameter->id != id) parameter = parameter->next;
    return parameter;
}

void *sim_parameter_value(const MMAL_PORT_T *port, uint32_t id) {
    return find(port, id)->value;
}

/* Firmware older than 2018 or so has no direct gains; MMALSIM_NO_GAIN=1 plays one. */
static bool refused_by_firmware(uint32_t id) {
    return (id == MMAL_PARAMETER_ANALOG_GAIN || id == MMAL_PARAMETER_DIGITAL_GAIN) && sim_setting("MMALSIM_NO_GAIN", 0);
}

static MMAL_STATUS_T set(MMAL_PORT_T *port, uint32_t id, const void *value, size_t size) {
    pthread_mutex_lock(&sim_lock);
    sim_parameter *parameter = find(port, id);
    MMAL_STATUS_T status = !parameter || refused_by_firmware(id) ? MMAL_ENOSYS
                           : parameter->size != size            ? MMAL_EINVAL
                                                                : MMAL_SUCCESS;
    if (status == MMAL_SUCCESS && port->component->priv->camera) status = sim_camera_set(port, id, value);
    if (status == MMAL_SUCCESS) memcpy(parameter->value, value, size);
    pthread_mutex_unlock(&sim_lock);
    return status;
}

static MMAL_STATUS_T get(MMAL_PORT_T *port, uint32_t id, void *value, size_t size) {
    MMAL_STATUS_T status = MMAL_SUCCESS;
    pthread_mutex_lock(&sim_lock);
    if (!port->component->priv->camera || !sim_camera_get(port, id, value, size)) {
        sim_parameter *parameter = find(port, id);
        if (!parameter || refused_by_firmware(id)) status = MMAL_ENOSYS;
        else if (parameter->size != size) status = MMAL_EINVAL;
        else memcpy(value, parameter->value, size);
    }
    pthread_mutex_unlock(&sim_lock);
    return status;
}

/* picamera takes the number of encodings from the size that comes back. */
static MMAL_STATUS_T get_encodings(MMAL_PORT_T *port, MMAL_PARAMETER_HEADER_T *header) {
    uint32_t encodings[8];
    unsigned count = sim_encodings(port, encodings);
    if (header->size < sizeof *header + count * WORD) return MMAL_ENOSPC;
    memset(header + 1, 0, header->size - sizeof *header);
    memcpy(header + 1, encodings, count * WORD);
    header->size = (uint32_t)(sizeof *header + count * WORD);
    return MMAL_SUCCESS;
}

/* Firmware since 2016 refuses the older, shorter structure, which has no names; so picamera tries both. */
static MMAL_STATUS_T get_camera_info(CAMERA_INFO_T *info, size_t size) {
    if (size != sizeof *info) return MMAL_EINVAL;
    const sim_sensor *sensor = sim_sensor_attached();
    memset(info, 0, size);
    info->num_cameras = (uint32_t)sim_setting("MMALSIM_CAMERAS", 1);
    for (uint32_t i = 0; i < info->num_cameras && i < COUNT(info->cameras); i++) {
        info->cameras[i].port_id = i;
        info->cameras[i].max_width = sensor->width;
        info->cameras[i].max_height = sensor->height;
        strcpy(info->cameras[i].camera_name, sensor->name);
    }
    return MMAL_SUCCESS;
}

MMAL_STATUS_T mmal_port_parameter_set(MMAL_PORT_T *port, const MMAL_PARAMETER_HEADER_T *header) {
    if (header->size < sizeof *header) return MMAL_EINVAL;
    return set(port, header->id, header + 1, header->size - sizeof *header);
}

MMAL_STATUS_T mmal_port_parameter_get(MMAL_PORT_T *port, MMAL_PARAMETER_HEADER_T *header) {
    if (header->size < sizeof *header) return MMAL_EINVAL;
    void *value = header + 1;
    size_t size = header->size - sizeof *header;
    if (header->id == MMAL_PARAMETER_SUPPORTED_ENCODINGS) return get_encodings(port, header);
    if (header->id == MMAL_PARAMETER_CAMERA_INFO && port->component->priv->kind == KIND_CAMERA_INFO)
        return get_camera_info(value, size);
    return get(port, header->id, value, size);
}

#define ACCESSORS(name, type)                                                                          \
    MMAL_STATUS_T mmal_port_parameter_set_##name(MMAL_PORT_T *port, uint32_t id, type value) {          \
        return set(port, id, &value, sizeof value);                                                    \
    }                                                                                                  \
    MMAL_STATUS_T mmal_port_parameter_get_##name(MMAL_PORT_T *port, uint32_t id, type *value) {         \
        return get(port, id, value, sizeof *value);                                                    \
    }

ACCESSORS(boolean, MMAL_BOOL_T)
ACCESSORS(uint64, uint64_t)
ACCESSORS(int64, int64_t)
ACCESSORS(uint32, uint32_t)
ACCESSORS(int32, int32_t)
ACCESSORS(rational, MMAL_RATIONAL_T)
