/* What the frames show, so that a test can tell each from every other, and what was done to it:
   - the scene: red grows with the place from left to right in the sensor's field of view, green from top to
     bottom, blue tells the eye; a yellow square wanders to the right. Flips, rotation, zoom, brightness and
     contrast act on it;
   - over it, upright and untouched (like the firmware's own annotation): a strip of light and dark cells along
     the first rows of each eye and the same along the last, which spell the eye and the frame's number. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* Cells of a strip: light, dark, 2 for the eye, 16 for the number (highest bit first), parity, light. */
enum { CELLS = 22, NUMBER_BITS = 16 };
enum { EYE_ONLY, EYE_LEFT, EYE_RIGHT };

typedef struct { uint8_t red, green, blue; } colour;
typedef struct { unsigned left, top, right, bottom; } area;

static const uint8_t BLUE_OF_EYE[] = {128, 64, 192};

static unsigned pixel_bytes(uint32_t encoding) {
    switch (encoding) {
    case MMAL_ENCODING_RGB24: case MMAL_ENCODING_BGR24: return 3;
    case MMAL_ENCODING_RGBA: case MMAL_ENCODING_BGRA: return 4;
    default: return 1;
    }
}

size_t sim_frame_bytes(const sim_view *view) {
    size_t pixels = (size_t)view->stride * view->rows;
    if (view->encoding == MMAL_ENCODING_OPAQUE) return 128;
    return view->encoding == MMAL_ENCODING_I420 ? pixels * 3 / 2 : pixels * pixel_bytes(view->encoding);
}

/* ---- one pixel, in any encoding ---- */

/* ITU-R BT.601 with 16..235 for luma: what picamera's PiYUVArray.rgb_array undoes. */
static uint8_t luma(colour c) { return (uint8_t)(16 + ((66 * c.red + 129 * c.green + 25 * c.blue + 128) >> 8)); }
static uint8_t chroma_u(colour c) { return (uint8_t)(128 + (-38 * c.red - 74 * c.green + 112 * c.blue) / 256); }
static uint8_t chroma_v(colour c) { return (uint8_t)(128 + (112 * c.red - 94 * c.green - 18 * c.blue) / 256); }

static void put_pixel(const sim_view *view, uint8_t *out, unsigned x, unsigned y, colour c) {
    if (view->encoding == MMAL_ENCODING_I420) {
        size_t plane = (size_t)view->stride * view->rows;
        out[(size_t)y * view->stride + x] = luma(c);
        if ((x | y) & 1) return;
        size_t place = (size_t)(y / 2) * (view->stride / 2) + x / 2;
        out[plane + place] = chroma_u(c);
        out[plane + plane / 4 + place] = chroma_v(c);
        return;
    }
    unsigned bytes = pixel_bytes(view->encoding);
    bool red_first = view->encoding == MMAL_ENCODING_RGB24 || view->encoding == MMAL_ENCODING_RGBA;
    uint8_t *pixel = out + ((size_t)y * view->stride + x) * bytes;
    pixel[0] = red_first ? c.red : c.blue;
    pixel[1] = c.green;
    pixel[2] = red_first ? c.blue : c.red;
    if (bytes == 4) pixel[3] = 255;
}

static void put_area(const sim_view *view, uint8_t *out, area a, colour c) {
    for (unsigned y = a.top; y < a.bottom; y++)
        for (unsigned x = a.left; x < a.right; x++) put_pixel(view, out, x, y, c);
}

/* ---- the scene ---- */

static uint8_t tone(const sim_view *view, float value) {
    value = (value - 128) * view->contrast + 128 + view->brightness * 256;
    return value < 0 ? 0 : value > 255 ? 255 : (uint8_t)(value + 0.5f);
}

static colour toned(const sim_view *view, float red, float green, float blue) {
    return (colour){tone(view, red), tone(view, green), tone(view, blue)};
}

static area eye_area(const sim_view *view, unsigned index) {
    unsigned width = view->width / view->eyes_x, height = view->height / view->eyes_y;
    unsigned left = view->eyes_x == 2 ? index * width : 0, top = view->eyes_y == 2 ? index * height : 0;
    return (area){left, top, left + width, top + height};
}

/* The pair keeps its places whatever is done to the eyes: each is processed on its own, then they are joined. */
static unsigned eye_shown(const sim_view *view, unsigned index) {
    return !view->stereo ? EYE_ONLY : (index ^ view->swap_eyes) ? EYE_RIGHT : EYE_LEFT;
}

static unsigned eye_count(const sim_view *view) {
    return view->eyes_x * view->eyes_y;
}

/* From a place in the eye's picture (0..1) to one in the sensor's field of view. Mirrored last, so undone first;
   rotated clockwise. */
static void place_in_field(const sim_view *view, float a, float b, float *u, float *v) {
    if (view->mirror & MMAL_PARAM_MIRROR_HORIZONTAL) a = 1 - a;
    if (view->mirror & MMAL_PARAM_MIRROR_VERTICAL) b = 1 - b;
    float x = a, y = b;
    if (view->rotation == 90) x = b, y = 1 - a;
    if (view->rotation == 180) x = 1 - a, y = 1 - b;
    if (view->rotation == 270) x = 1 - b, y = a;
    *u = view->field[0] + x * view->field[2];
    *v = view->field[1] + y * view->field[3];
}

static void place_in_eye(const sim_view *view, float u, float v, float *a, float *b) {
    float x = (u - view->field[0]) / view->field[2], y = (v - view->field[1]) / view->field[3];
    *a = x, *b = y;
    if (view->rotation == 90) *a = 1 - y, *b = x;
    if (view->rotation == 180) *a = 1 - x, *b = 1 - y;
    if (view->rotation == 270) *a = y, *b = 1 - x;
    if (view->mirror & MMAL_PARAM_MIRROR_HORIZONTAL) *a = 1 - *a;
    if (view->mirror & MMAL_PARAM_MIRROR_VERTICAL) *b = 1 - *b;
}

static void put_scene(const sim_view *view, uint8_t *out, unsigned index) {
    area eye = eye_area(view, index);
    float blue = BLUE_OF_EYE[eye_shown(view, index)];
    for (unsigned y = eye.top; y < eye.bottom; y++)
        for (unsigned x = eye.left; x < eye.right; x++) {
            float u, v;
            place_in_field(view, ((float)(x - eye.left) + 0.5f) / (float)(eye.right - eye.left),
                           ((float)(y - eye.top) + 0.5f) / (float)(eye.bottom - eye.top), &u, &v);
            put_pixel(view, out, x, y, toned(view, 32 + 192 * u, 32 + 192 * v, blue));
        }
}

static unsigned place(float share, unsigned first, unsigned last) {
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    return first + (unsigned)(share * (float)(last - first) + 0.5f);
}

static void put_square(const sim_view *view, uint8_t *out, unsigned index, uint64_t frame) {
    area eye = eye_area(view, index);
    float u = 0.1f + 0.65f * (float)(frame % 120) / 120, a0, b0, a1, b1;
    if (eye_shown(view, index) == EYE_RIGHT) u -= 0.05f;
    place_in_eye(view, u, 0.3f, &a0, &b0);
    place_in_eye(view, u + 0.15f, 0.45f, &a1, &b1);
    area square = {place(a0 < a1 ? a0 : a1, eye.left, eye.right), place(b0 < b1 ? b0 : b1, eye.top, eye.bottom),
                   place(a0 < a1 ? a1 : a0, eye.left, eye.right), place(b0 < b1 ? b1 : b0, eye.top, eye.bottom)};
    put_area(view, out, square, toned(view, 240, 240, 16));
}

/* ---- the strips ---- */

static uint32_t strip_cells(unsigned eye, uint64_t frame) {
    uint32_t payload = (uint32_t)eye << NUMBER_BITS | (uint32_t)(frame & 0xffff);
    return 2u << (NUMBER_BITS + 4) | payload << 2 | (uint32_t)__builtin_parity(payload) << 1 | 1u;
}

static void put_strips(const sim_view *view, uint8_t *out, unsigned index, uint64_t frame) {
    area eye = eye_area(view, index);
    unsigned width = eye.right - eye.left, height = (eye.bottom - eye.top) / 24 * 2;
    uint32_t cells = strip_cells(eye_shown(view, index), frame);
    for (unsigned cell = 0; cell < CELLS; cell++) {
        uint8_t level = cells >> (CELLS - 1 - cell) & 1 ? 235 : 20;
        unsigned left = eye.left + width * cell / CELLS, right = eye.left + width * (cell + 1) / CELLS;
        area strip = {left, eye.top, right, eye.top + height};
        put_area(view, out, strip, (colour){level, level, level});
        strip.bottom = eye.bottom;
        strip.top = eye.bottom - height;
        put_area(view, out, strip, (colour){level, level, level});
    }
}

/* ---- frames ---- */

void sim_forget_picture(sim_picture *picture) {
    free(picture->still);
    picture->still = NULL;
}

/* The scene is painted once; per frame only what moves. */
void sim_paint(sim_picture *picture, const sim_view *view, uint64_t frame, uint8_t *out) {
    if (view->encoding == MMAL_ENCODING_OPAQUE) return;
    if (!picture->still || memcmp(&picture->view, view, sizeof *view)) {
        sim_forget_picture(picture);
        picture->view = *view;
        picture->still = sim_alloc(sim_frame_bytes(view));
        for (unsigned index = 0; index < eye_count(view); index++) put_scene(view, picture->still, index);
    }
    memcpy(out, picture->still, sim_frame_bytes(view));
    for (unsigned index = 0; index < eye_count(view); index++) {
        put_square(view, out, index, frame);
        put_strips(view, out, index, frame);
    }
}
