/* What a simulated camera sees, as pixels of any of the formats that it offers. */

#pragma once

#include <cstdint>
#include <vector>

#include <libcamera/base/span.h>

#include <libcamera/geometry.h>
#include <libcamera/pixel_format.h>
#include <libcamera/transform.h>

namespace libcamera {

/* Everything on which the background of a picture depends. */
struct Look {
	unsigned int camera = 0;
	Size array;			/* the sensor's full pixel array, in whose coordinates `crop` is given */
	Rectangle crop;
	Transform transform = Transform::Identity;
	float light = 1.0f;		/* exposure times gains, over a well exposed picture's */
	float brightness = 0.0f;
	float contrast = 1.0f;
	float red = 1.0f;
	float blue = 1.0f;

	bool operator==(const Look &other) const;
};

/*
 * One stream's picture. The background brightens to the right in red, downwards in green; blue tells the cameras
 * apart; a light disc stands left of and above the middle. Over it, in the first and the last rows, stands a 32-bit
 * number as black and white cells, most significant bit first.
 */
class Picture
{
public:
	void configure(const PixelFormat &format, const Size &size, unsigned int stride);
	void draw(const Look &look, uint32_t number, const std::vector<Span<uint8_t>> &planes);

private:
	void paint(const Look &look);
	void stamp(uint32_t number);
	void put(unsigned int x, unsigned int y, uint8_t r, uint8_t g, uint8_t b);
	void putChroma(unsigned int x, unsigned int y, uint8_t u, uint8_t v);
	bool inStrip(unsigned int x, unsigned int y) const;

	PixelFormat format_;
	Size size_;
	unsigned int stride_ = 0;
	unsigned int cell_ = 1;
	unsigned int rows_ = 1;
	Look look_;
	bool painted_ = false;
	std::vector<uint8_t> pixels_;
};

/* Bytes that a picture of these measures takes; `stride` is that of the first plane. */
unsigned int pictureBytes(const PixelFormat &format, const Size &size, unsigned int stride);

} /* namespace libcamera */
