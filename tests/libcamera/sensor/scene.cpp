#include "scene.h"

#include <algorithm>
#include <cstring>
#include <tuple>

#include <libcamera/formats.h>

namespace libcamera {

namespace {

constexpr unsigned int kBits = 32;
constexpr unsigned int kMaxCell = 8;

uint8_t clamp(float value)
{
	return std::clamp(value, 0.0f, 255.0f) + 0.5f;
}

bool isPlanar(const PixelFormat &format)
{
	return format == formats::YUV420 || format == formats::NV12;
}

/* JPEG's coefficients, full range: what libcamera calls sYCC. */
uint8_t luma(uint8_t r, uint8_t g, uint8_t b)
{
	return clamp(0.299f * r + 0.587f * g + 0.114f * b);
}

} /* namespace */

unsigned int pictureBytes(const PixelFormat &format, const Size &size, unsigned int stride)
{
	unsigned int bytes = stride * size.height;
	return isPlanar(format) ? bytes + stride * (size.height / 2) : bytes;
}

bool Look::operator==(const Look &other) const
{
	auto key = [](const Look &look) {
		return std::tuple(look.camera, look.array, look.crop, look.transform, look.light,
				  look.brightness, look.contrast, look.red, look.blue);
	};
	return key(*this) == key(other);
}

void Picture::configure(const PixelFormat &format, const Size &size, unsigned int stride)
{
	format_ = format;
	size_ = size;
	stride_ = stride;
	cell_ = std::max(1u, std::min(kMaxCell, size.width / kBits));
	rows_ = std::max(1u, std::min(cell_, size.height / 4));
	painted_ = false;
	pixels_.assign(pictureBytes(format, size, stride), 0);
}

void Picture::draw(const Look &look, uint32_t number, const std::vector<Span<uint8_t>> &planes)
{
	if (!painted_ || !(look == look_))
		paint(look);
	stamp(number);

	size_t done = 0;
	for (const Span<uint8_t> &plane : planes) {
		size_t bytes = std::min(plane.size(), pixels_.size() - done);
		memcpy(plane.data(), pixels_.data() + done, bytes);
		done += bytes;
	}
}

void Picture::paint(const Look &look)
{
	look_ = look;
	painted_ = true;
	const float base[] = { 40, 120, 200, 80 };
	const float blue = base[look.camera % 4];
	auto seen = [&look](float value, float gain) {
		return clamp((value * look.light * gain - 128) * look.contrast + 128 + 128 * look.brightness);
	};

	for (unsigned int y = 0; y < size_.height; y++) {
		unsigned int fromTop = !!(look.transform & Transform::VFlip) ? size_.height - 1 - y : y;
		float sy = (look.crop.y + look.crop.height * (fromTop + 0.5f) / size_.height) / look.array.height;
		for (unsigned int x = 0; x < size_.width; x++) {
			unsigned int fromLeft = !!(look.transform & Transform::HFlip) ? size_.width - 1 - x : x;
			float sx = (look.crop.x + look.crop.width * (fromLeft + 0.5f) / size_.width) / look.array.width;
			bool disc = (sx - 0.35f) * (sx - 0.35f) + (sy - 0.4f) * (sy - 0.4f) < 0.01f;
			uint8_t r = seen(disc ? 220 : 40 + 120 * sx, look.red);
			uint8_t g = seen(disc ? 220 : 40 + 120 * sy, 1.0f);
			uint8_t b = seen(disc ? 220 : blue, look.blue);
			put(x, y, r, g, b);
			if (isPlanar(format_) && x % 2 == 0 && y % 2 == 0) {
				/* A strip that is read through colour conversion must be gray. */
				bool gray = inStrip(fromLeft, y) || inStrip(fromLeft, y + 1);
				float yy = luma(r, g, b);
				putChroma(x, y, gray ? 128 : clamp(128 + 0.564f * (b - yy)),
					  gray ? 128 : clamp(128 + 0.713f * (r - yy)));
			}
		}
	}
}

bool Picture::inStrip(unsigned int x, unsigned int y) const
{
	/* One cell wider, since two pixels share their chroma. */
	return x < (kBits + 1) * cell_ && (y < rows_ || y >= size_.height - rows_);
}

/* The number is part of what is seen: a mirrored picture has it mirrored. */
void Picture::stamp(uint32_t number)
{
	bool mirrored = !!(look_.transform & Transform::HFlip);
	for (unsigned int i = 0; i < std::min(kBits * cell_, size_.width); i++) {
		uint8_t value = (number >> (kBits - 1 - i / cell_)) & 1 ? 255 : 0;
		unsigned int x = mirrored ? size_.width - 1 - i : i;
		for (unsigned int row = 0; row < rows_; row++) {
			put(x, row, value, value, value);
			put(x, size_.height - 1 - row, value, value, value);
		}
	}
}

void Picture::put(unsigned int x, unsigned int y, uint8_t r, uint8_t g, uint8_t b)
{
	uint8_t *row = pixels_.data() + y * stride_;
	/* libcamera names these formats by the bits of a little-endian word: RGB888 lies in memory as B, G, R. */
	if (format_ == formats::RGB888)
		std::tie(row[3 * x], row[3 * x + 1], row[3 * x + 2]) = std::tuple(b, g, r);
	else if (format_ == formats::BGR888)
		std::tie(row[3 * x], row[3 * x + 1], row[3 * x + 2]) = std::tuple(r, g, b);
	else if (format_ == formats::XRGB8888)
		std::tie(row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]) = std::tuple(b, g, r, uint8_t(255));
	else if (format_ == formats::XBGR8888)
		std::tie(row[4 * x], row[4 * x + 1], row[4 * x + 2], row[4 * x + 3]) = std::tuple(r, g, b, uint8_t(255));
	else
		row[x] = luma(r, g, b);
}

void Picture::putChroma(unsigned int x, unsigned int y, uint8_t u, uint8_t v)
{
	uint8_t *chroma = pixels_.data() + stride_ * size_.height;
	if (format_ == formats::NV12) {
		uint8_t *pair = chroma + y / 2 * stride_ + x;
		pair[0] = u;
		pair[1] = v;
	} else {
		unsigned int half = stride_ / 2;
		chroma[y / 2 * half + x / 2] = u;
		chroma[half * (size_.height / 2) + y / 2 * half + x / 2] = v;
	}
}

} /* namespace libcamera */
