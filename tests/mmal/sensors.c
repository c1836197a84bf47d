/* The sensors and their modes. ov5647 and imx219: the tables in picamera's documentation ("Camera Hardware",
   sensor modes) with the highest rates given there. imx477: Raspberry Pi's published modes. */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

static const sim_sensor_mode OV5647_MODES[] = {
    {1920, 1080, {1, 1}, {30, 1}}, {2592, 1944, {1, 1}, {15, 1}}, {2592, 1944, {1, 6}, {1, 1}},
    {1296, 972, {1, 1}, {42, 1}},  {1296, 730, {1, 1}, {49, 1}},  {640, 480, {42, 1}, {60, 1}},
    {640, 480, {60, 1}, {90, 1}},
};

static const sim_sensor_mode IMX219_MODES[] = {
    {1920, 1080, {1, 10}, {30, 1}}, {3280, 2464, {1, 10}, {15, 1}}, {3280, 2464, {1, 10}, {15, 1}},
    {1640, 1232, {1, 10}, {40, 1}}, {1640, 922, {1, 10}, {40, 1}},  {1280, 720, {40, 1}, {90, 1}},
    {640, 480, {40, 1}, {90, 1}},
};

static const sim_sensor_mode IMX477_MODES[] = {
    {2028, 1080, {1, 10}, {50, 1}}, {2028, 1520, {1, 10}, {50, 1}}, {4056, 3040, {1, 200}, {10, 1}},
    {1332, 990, {50, 1}, {120, 1}},
};

static const sim_sensor SENSORS[] = {
    {"ov5647", 2592, 1944, COUNT(OV5647_MODES), OV5647_MODES},
    {"imx219", 3280, 2464, COUNT(IMX219_MODES), IMX219_MODES},
    {"imx477", 4056, 3040, COUNT(IMX477_MODES), IMX477_MODES},
};

const sim_sensor *sim_sensor_attached(void) {
    const char *name = getenv("MMALSIM_SENSOR");
    for (size_t i = 0; name && i < COUNT(SENSORS); i++)
        if (!strcmp(SENSORS[i].name, name)) return &SENSORS[i];
    return &SENSORS[0];
}

static double hertz(MMAL_RATIONAL_T rate) {
    return rate.den ? (double)rate.num / rate.den : 0;
}

/* How badly a mode suits. The reasons and their order are the documentation's; its example of 800x600 at 60 Hz
   shows that a picture is enlarged 1.25 times for the sake of the rate. How far that goes it does not say: here
   to 1.3 times, beyond which the sensor runs slower than asked (1920x1080 at 90 Hz gives 30). */
static double unsuitability(const sim_sensor_mode *mode, unsigned width, unsigned height, double rate) {
    double enlargement = (double)height / mode->height;
    if ((double)width / mode->width > enlargement) enlargement = (double)width / mode->width;
    double misfit = (double)width * mode->height / ((double)height * mode->width);
    double badness = misfit > 1 ? misfit - 1 : 1 / misfit - 1;
    badness += enlargement > 1 ? 1 + 4 * (enlargement - 1) : 1 - enlargement;
    if (rate > hertz(mode->fastest)) badness += 100 + rate / hertz(mode->fastest);
    if (rate < hertz(mode->slowest)) badness += 10;
    if (enlargement > 1.3) badness += 1000;
    return badness;
}

/* number: as in the tables, from 1; 0 lets the firmware choose. */
const sim_sensor_mode *sim_choose_mode(const sim_sensor *sensor, unsigned number, unsigned width, unsigned height,
                                       MMAL_RATIONAL_T rate) {
    if (number >= 1 && number <= sensor->mode_count) return &sensor->modes[number - 1];
    const sim_sensor_mode *best = NULL;
    double least = 0;
    for (unsigned i = 0; i < sensor->mode_count; i++) {
        double badness = unsuitability(&sensor->modes[i], width, height, hertz(rate));
        if (best && badness >= least) continue;
        best = &sensor->modes[i];
        least = badness;
    }
    return best;
}
