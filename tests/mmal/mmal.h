/* What a client of libmmal sees: the structures as picamera 1.13 declares them to ctypes (picamera/mmal.py),
   field by field. A wrong field here shows at once: picamera reads and writes them directly. */
#ifndef MMAL_H
#define MMAL_H

#include <stddef.h>
#include <stdint.h>

typedef enum {
    MMAL_SUCCESS, MMAL_ENOMEM, MMAL_ENOSPC, MMAL_EINVAL, MMAL_ENOSYS, MMAL_ENOENT, MMAL_ENXIO, MMAL_EIO
} MMAL_STATUS_T;

typedef uint32_t MMAL_FOURCC_T;
typedef int32_t MMAL_BOOL_T;

#define FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
#define MMAL_ENCODING_I420 FOURCC('I', '4', '2', '0')
#define MMAL_ENCODING_RGB24 FOURCC('R', 'G', 'B', '3')
#define MMAL_ENCODING_BGR24 FOURCC('B', 'G', 'R', '3')
#define MMAL_ENCODING_RGBA FOURCC('R', 'G', 'B', 'A')
#define MMAL_ENCODING_BGRA FOURCC('B', 'G', 'R', 'A')
#define MMAL_ENCODING_OPAQUE FOURCC('O', 'P', 'Q', 'V')
#define MMAL_EVENT_ERROR FOURCC('E', 'R', 'R', 'O')
#define MMAL_TIME_UNKNOWN INT64_MIN

typedef struct { int32_t x, y, width, height; } MMAL_RECT_T;
typedef struct { int32_t num, den; } MMAL_RATIONAL_T;

/* ---- formats ---- */

enum { MMAL_ES_TYPE_CONTROL = 1, MMAL_ES_TYPE_VIDEO = 3 };

typedef struct {
    uint32_t width, height;         /* of the buffer: padded */
    MMAL_RECT_T crop;               /* the picture within it */
    MMAL_RATIONAL_T frame_rate, par;
    MMAL_FOURCC_T color_space;
} MMAL_VIDEO_FORMAT_T;

typedef union { MMAL_VIDEO_FORMAT_T video; } MMAL_ES_SPECIFIC_FORMAT_T;

typedef struct {
    uint32_t type;
    MMAL_FOURCC_T encoding, encoding_variant;
    MMAL_ES_SPECIFIC_FORMAT_T *es;
    uint32_t bitrate, flags, extradata_size;
    uint8_t *extradata;
} MMAL_ES_FORMAT_T;

/* ---- buffers, queues, pools ---- */

enum { MMAL_BUFFER_HEADER_FLAG_FRAME_START = 2, MMAL_BUFFER_HEADER_FLAG_FRAME_END = 4 };

typedef struct {
    uint32_t planes, offset[4], pitch[4], flags;
} MMAL_BUFFER_HEADER_TYPE_SPECIFIC_T;

typedef struct MMAL_BUFFER_HEADER_T {
    struct MMAL_BUFFER_HEADER_T *next;
    struct MMAL_BUFFER_HEADER_PRIVATE_T *priv;
    uint32_t cmd;
    uint8_t *data;
    uint32_t alloc_size, length, offset, flags;
    int64_t pts, dts;               /* microseconds */
    MMAL_BUFFER_HEADER_TYPE_SPECIFIC_T *type;
    void *user_data;
} MMAL_BUFFER_HEADER_T;

typedef struct MMAL_QUEUE_T MMAL_QUEUE_T;

typedef struct {
    MMAL_QUEUE_T *queue;
    uint32_t headers_num;
    MMAL_BUFFER_HEADER_T **header;
} MMAL_POOL_T;

/* ---- ports, components, connections ---- */

enum { MMAL_PORT_TYPE_CONTROL = 1, MMAL_PORT_TYPE_INPUT, MMAL_PORT_TYPE_OUTPUT };

typedef struct MMAL_PORT_T {
    struct MMAL_PORT_PRIVATE_T *priv;
    const char *name;
    uint32_t type;
    uint16_t index, index_all;
    uint32_t is_enabled;
    MMAL_ES_FORMAT_T *format;
    uint32_t buffer_num_min, buffer_size_min, buffer_alignment_min;
    uint32_t buffer_num_recommended, buffer_size_recommended;
    uint32_t buffer_num, buffer_size;
    struct MMAL_COMPONENT_T *component;
    void *userdata;
    uint32_t capabilities;
} MMAL_PORT_T;

typedef void (*MMAL_PORT_BH_CB_T)(MMAL_PORT_T *port, MMAL_BUFFER_HEADER_T *buffer);

typedef struct MMAL_COMPONENT_T {
    struct MMAL_COMPONENT_PRIVATE_T *priv;
    void *userdata;
    const char *name;
    uint32_t is_enabled;
    MMAL_PORT_T *control;
    uint32_t input_num;
    MMAL_PORT_T **input;
    uint32_t output_num;
    MMAL_PORT_T **output;
    uint32_t clock_num;
    MMAL_PORT_T **clock;
    uint32_t port_num;
    MMAL_PORT_T **port;
    uint32_t id;
} MMAL_COMPONENT_T;

enum { MMAL_CONNECTION_FLAG_TUNNELLING = 1 };

typedef struct MMAL_CONNECTION_T {
    void *user_data;
    void (*callback)(struct MMAL_CONNECTION_T *connection);
    uint32_t is_enabled, flags;
    MMAL_PORT_T *in, *out;
    MMAL_POOL_T *pool;
    MMAL_QUEUE_T *queue;
    const char *name;
    int64_t time_setup, time_enable, time_disable;
} MMAL_CONNECTION_T;

/* ---- parameters ---- */

typedef struct { uint32_t id, size; } MMAL_PARAMETER_HEADER_T;    /* size counts the header too */

enum {
    MMAL_PARAMETER_SUPPORTED_ENCODINGS = 0x1,
    MMAL_PARAMETER_ZERO_COPY = 0x4,
    MMAL_PARAMETER_SYSTEM_TIME = 0xd,
    MMAL_PARAMETER_ROTATION = 0x10002,
    MMAL_PARAMETER_AWB_MODE = 0x10005,
    MMAL_PARAMETER_IMAGE_EFFECT = 0x10006,
    MMAL_PARAMETER_COLOUR_EFFECT = 0x10007,
    MMAL_PARAMETER_FLASH = 0x10009,
    MMAL_PARAMETER_EXPOSURE_COMP = 0x1000d,
    MMAL_PARAMETER_MIRROR = 0x1000f,
    MMAL_PARAMETER_CAMERA_NUM = 0x10010,
    MMAL_PARAMETER_CAPTURE = 0x10011,
    MMAL_PARAMETER_EXPOSURE_MODE = 0x10012,
    MMAL_PARAMETER_EXP_METERING_MODE = 0x10013,
    MMAL_PARAMETER_CAMERA_CONFIG = 0x10015,
    MMAL_PARAMETER_FRAME_RATE = 0x1001a,
    MMAL_PARAMETER_CAMERA_INFO = 0x1001c,
    MMAL_PARAMETER_VIDEO_STABILISATION = 0x1001d,
    MMAL_PARAMETER_INPUT_CROP = 0x10025,
    MMAL_PARAMETER_DYNAMIC_RANGE_COMPRESSION = 0x1002a,
    MMAL_PARAMETER_SHARPNESS = 0x1002c,
    MMAL_PARAMETER_CONTRAST = 0x1002d,
    MMAL_PARAMETER_BRIGHTNESS = 0x1002e,
    MMAL_PARAMETER_SATURATION = 0x1002f,
    MMAL_PARAMETER_ISO = 0x10030,
    MMAL_PARAMETER_IMAGE_EFFECT_PARAMETERS = 0x10032,
    MMAL_PARAMETER_CAMERA_BURST_CAPTURE = 0x10033,
    MMAL_PARAMETER_CAPTURE_STATS_PASS = 0x10036,
    MMAL_PARAMETER_CAMERA_CUSTOM_SENSOR_CONFIG = 0x10037,
    MMAL_PARAMETER_FPS_RANGE = 0x1003e,
    MMAL_PARAMETER_SHUTTER_SPEED = 0x10043,
    MMAL_PARAMETER_CUSTOM_AWB_GAINS = 0x10044,
    MMAL_PARAMETER_CAMERA_SETTINGS = 0x10045,
    MMAL_PARAMETER_VIDEO_DENOISE = 0x10047,
    MMAL_PARAMETER_STILLS_DENOISE = 0x10048,
    MMAL_PARAMETER_ANNOTATE = 0x10049,
    MMAL_PARAMETER_STEREOSCOPIC_MODE = 0x1004a,
    MMAL_PARAMETER_ANALOG_GAIN = 0x10059,      /* newer than picamera 1.13, which does not name it */
    MMAL_PARAMETER_DIGITAL_GAIN = 0x1005a
};

enum { MMAL_PARAM_TIMESTAMP_MODE_ZERO, MMAL_PARAM_TIMESTAMP_MODE_RAW_STC, MMAL_PARAM_TIMESTAMP_MODE_RESET_STC };
enum { MMAL_PARAM_MIRROR_VERTICAL = 1, MMAL_PARAM_MIRROR_HORIZONTAL = 2 };      /* both: 3 */
enum { MMAL_STEREOSCOPIC_MODE_NONE, MMAL_STEREOSCOPIC_MODE_SIDE_BY_SIDE, MMAL_STEREOSCOPIC_MODE_BOTTOM };

/* The structures below leave out the parameter header. */

typedef struct {
    uint32_t max_stills_w, max_stills_h, stills_yuv422, one_shot_stills, max_preview_video_w, max_preview_video_h;
    uint32_t num_preview_video_frames, stills_capture_circular_buffer_height, fast_preview_resume, use_stc_timestamp;
} CAMERA_CONFIG_T;

typedef struct { uint32_t mode; MMAL_BOOL_T decimate, swap_eyes; } STEREOSCOPIC_MODE_T;

typedef struct { MMAL_RATIONAL_T low, high; } FPS_RANGE_T;

typedef struct { MMAL_RATIONAL_T red, blue; } AWB_GAINS_T;

typedef struct {
    uint32_t exposure;              /* microseconds */
    MMAL_RATIONAL_T analog_gain, digital_gain, awb_red_gain, awb_blue_gain;
    uint32_t focus_position;
} CAMERA_SETTINGS_T;

typedef struct {
    uint32_t num_cameras, num_flashes;
    struct { uint32_t port_id, max_width, max_height; MMAL_BOOL_T lens_present; char camera_name[16]; } cameras[4];
    uint32_t flashes[2];
} CAMERA_INFO_T;

typedef struct { uint8_t bytes[304]; } CAMERA_ANNOTATE_V3_T;

/* ---- functions that the files of this folder use of each other; the rest is in the files alone ---- */

MMAL_QUEUE_T *mmal_queue_create(void);
void mmal_queue_put(MMAL_QUEUE_T *queue, MMAL_BUFFER_HEADER_T *buffer);
MMAL_BUFFER_HEADER_T *mmal_queue_get(MMAL_QUEUE_T *queue);
MMAL_BUFFER_HEADER_T *mmal_queue_wait(MMAL_QUEUE_T *queue);
void mmal_queue_destroy(MMAL_QUEUE_T *queue);
MMAL_POOL_T *mmal_pool_create(unsigned headers, uint32_t payload_size);
void mmal_pool_destroy(MMAL_POOL_T *pool);
void mmal_buffer_header_reset(MMAL_BUFFER_HEADER_T *buffer);
void mmal_buffer_header_release(MMAL_BUFFER_HEADER_T *buffer);
void mmal_format_copy(MMAL_ES_FORMAT_T *to, MMAL_ES_FORMAT_T *from);
MMAL_STATUS_T mmal_port_disable(MMAL_PORT_T *port);
MMAL_STATUS_T mmal_component_enable(MMAL_COMPONENT_T *component);
MMAL_STATUS_T mmal_component_disable(MMAL_COMPONENT_T *component);

#endif
