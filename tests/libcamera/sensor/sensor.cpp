/*
 * A pipeline handler for simulated sensors: what a driver with its sensor and its image processor is to libcamera.
 * Everything above it (the camera manager, requests, controls, the Python bindings) is libcamera's own.
 *
 * All of it runs in the camera manager's thread; a timer stands for the sensor's frame clock.
 */

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <sstream>

#include <time.h>

#include <libcamera/base/log.h>
#include <libcamera/base/timer.h>

#include <libcamera/control_ids.h>
#include <libcamera/formats.h>
#include <libcamera/property_ids.h>
#include <libcamera/stream.h>

#include "libcamera/internal/camera.h"
#include "libcamera/internal/dma_buf_allocator.h"
#include "libcamera/internal/formats.h"
#include "libcamera/internal/framebuffer.h"
#include "libcamera/internal/mapped_framebuffer.h"
#include "libcamera/internal/media_device.h"
#include "libcamera/internal/pipeline_handler.h"
#include "libcamera/internal/request.h"

#include "bench.h"
#include "scene.h"

namespace libcamera {

LOG_DEFINE_CATEGORY(Sensor)

namespace {

constexpr unsigned int kMaxCameras = 4;
constexpr unsigned int kMaxStreams = 3;
constexpr unsigned int kDefaultBuffers = 4;
constexpr unsigned int kStrideAlignment = 64;
constexpr unsigned int kSmallest = 64;

constexpr int64_t kMaxDuration = 10000000;	/* us */
constexpr int64_t kReadout = 100;		/* us between the longest exposure and the next frame */
constexpr float kMaxGain = 16.0f;
constexpr float kWellExposed = 10000.0f;	/* us at gain 1 */
constexpr std::chrono::milliseconds kStartUp{ 40 };

/* The modes of the IMX219, the sensor of the Camera Module 2: two see everything, two only a part of it. */
const Size kArray{ 3280, 2464 };

struct Mode {
	Size size;
	Rectangle crop;
	int64_t minDuration;	/* us */
};

const std::array<Mode, 4> kModes{ {
	{ { 640, 480 }, { 1000, 752, 1280, 960 }, 4839 },
	{ { 1640, 1232 }, { 0, 0, 3280, 2464 }, 23895 },
	{ { 1920, 1080 }, { 680, 692, 1920, 1080 }, 21021 },
	{ { 3280, 2464 }, { 0, 0, 3280, 2464 }, 47183 },
} };

const std::array<PixelFormat, 6> kFormats{ {
	formats::XBGR8888, formats::XRGB8888, formats::RGB888, formats::BGR888, formats::YUV420, formats::NV12,
} };

const std::map<PixelFormat, unsigned int> kRawFormats{
	{ formats::SRGGB10_CSI2P, 10 },
	{ formats::SRGGB8, 8 },
};

bool isRaw(const StreamConfiguration &config)
{
	return PixelFormatInfo::info(config.pixelFormat).colourEncoding == PixelFormatInfo::ColourEncodingRAW;
}

template<typename Container, typename Value>
bool contains(const Container &container, const Value &value)
{
	return std::find(container.begin(), container.end(), value) != container.end();
}

/* The smallest mode that has the pixels asked for, one that sees everything first; the largest where none has. */
const Mode &modeFor(const Size &asked)
{
	const Mode *best = &kModes.back();
	for (const Mode &mode : kModes) {
		bool enough = mode.size.width >= asked.width && mode.size.height >= asked.height;
		if (enough && mode.crop.size() == kArray && mode.size < best->size)
			best = &mode;
	}
	return *best;
}

const Mode *modeOf(const CameraConfiguration &config)
{
	if (config.sensorConfig) {
		for (const Mode &mode : kModes)
			if (mode.size == config.sensorConfig->outputSize)
				return &mode;
		return nullptr;
	}
	Size largest;
	for (const StreamConfiguration &stream : config) {
		if (isRaw(stream))
			return &modeFor(stream.size);
		largest = std::max(largest, stream.size);
	}
	return &modeFor(largest);
}

/* The sensor is mounted upright. */
Transform transformOf(const CameraConfiguration &config)
{
	return config.orientation / Orientation::Rotate0;
}

int64_t now(clockid_t clock)
{
	struct timespec time;
	clock_gettime(clock, &time);
	return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* The part of `within` that has the shape of `size`, in its middle: an image processor scales but does not distort. */
Rectangle centred(const Rectangle &within, const Size &size)
{
	return within.size().boundedToAspectRatio(size).centeredTo(within.center());
}

} /* namespace */

/* ---- Configuration ---------------------------------------------------------------------------------------------- */

class SimulatedConfiguration : public CameraConfiguration
{
public:
	Status validate() override;

private:
	Status validateRaw(StreamConfiguration &config, const Mode &mode) const;
	Status validateProcessed(StreamConfiguration &config) const;
};

CameraConfiguration::Status SimulatedConfiguration::validate()
{
	if (config_.empty())
		return Invalid;

	Status status = Valid;
	if (!!(transformOf(*this) & Transform::Transpose)) {
		orientation = Orientation::Rotate0;
		status = Adjusted;
	}
	const Mode *mode = modeOf(*this);
	if (!mode) {
		LOG(Sensor, Error) << "The sensor has no mode of " << sensorConfig->outputSize;
		return Invalid;
	}
	if (config_.size() > kMaxStreams) {
		config_.resize(kMaxStreams);
		status = Adjusted;
	}
	for (StreamConfiguration &config : config_)
		if ((isRaw(config) ? validateRaw(config, *mode) : validateProcessed(config)) == Adjusted)
			status = Adjusted;
	return status;
}

CameraConfiguration::Status SimulatedConfiguration::validateRaw(StreamConfiguration &config, const Mode &mode) const
{
	const StreamConfiguration asked = config;
	if (!kRawFormats.count(config.pixelFormat))
		config.pixelFormat = formats::SRGGB10_CSI2P;
	config.size = mode.size;
	config.colorSpace = ColorSpace::Raw;
	const PixelFormatInfo &info = PixelFormatInfo::info(config.pixelFormat);
	config.stride = info.stride(config.size.width, 0, kStrideAlignment);
	config.frameSize = config.stride * config.size.height;
	return config.pixelFormat == asked.pixelFormat && config.size == asked.size ? Valid : Adjusted;
}

CameraConfiguration::Status SimulatedConfiguration::validateProcessed(StreamConfiguration &config) const
{
	const StreamConfiguration asked = config;
	if (!contains(kFormats, config.pixelFormat))
		config.pixelFormat = formats::XBGR8888;
	config.size = config.size.expandedTo({ kSmallest, kSmallest }).boundedTo(kArray).alignedDownTo(2, 2);
	const PixelFormatInfo &info = PixelFormatInfo::info(config.pixelFormat);
	config.stride = info.stride(config.size.width, 0, kStrideAlignment);
	config.frameSize = pictureBytes(config.pixelFormat, config.size, config.stride);
	if (!config.colorSpace)
		config.colorSpace = ColorSpace::Sycc;
	return config.pixelFormat == asked.pixelFormat && config.size == asked.size ? Valid : Adjusted;
}

/* ---- The camera ------------------------------------------------------------------------------------------------- */

/* What the controls ask for; it holds from the frame of the request that brings it. */
struct Settings {
	int64_t minDuration = 33333;
	int64_t maxDuration = 33333;
	bool autoExposure = true;
	bool autoGain = true;
	bool autoWhite = true;
	float exposure = 2000.0f;	/* us; automatic exposure starts in the dark */
	float gain = 1.0f;
	std::array<float, 2> colourGains{ 1.0f, 1.0f };
	float brightness = 0.0f;
	float contrast = 1.0f;
	Rectangle crop;
};

class SimulatedCamera : public Camera::Private
{
public:
	SimulatedCamera(PipelineHandler *pipe, unsigned int number);

	void setControls();
	void apply(const ControlList &controls);
	int64_t expose(double durationFactor);

	unsigned int number;
	Mode mode = kModes.back();
	Transform transform = Transform::Identity;
	Rectangle defaultCrop;
	Settings settings;
	std::array<Stream, kMaxStreams> streams;
	std::map<const Stream *, Picture> pictures;
};

SimulatedCamera::SimulatedCamera(PipelineHandler *pipe, unsigned int number_)
	: Camera::Private(pipe), number(number_)
{
	properties_.set(properties::Model, "simulated" + std::to_string(number));
	properties_.set(properties::Location, static_cast<int32_t>(properties::CameraLocationExternal));
	properties_.set(properties::Rotation, 0);
	properties_.set(properties::PixelArraySize, kArray);
	properties_.set(properties::UnitCellSize, Size(1120, 1120));
	properties_.set(properties::draft::ColorFilterArrangement, static_cast<int32_t>(properties::draft::RGGB));
	defaultCrop = mode.crop;
	setControls();
}

/* The ranges hold for the mode that is configured, as they do on a Raspberry Pi. */
void SimulatedCamera::setControls()
{
	int64_t limits[] = { std::max<int64_t>(33333, mode.minDuration), std::max<int64_t>(33333, mode.minDuration) };
	properties_.set(properties::ScalerCropMaximum, mode.crop);
	std::array<ControlValue, 2> exposureModes{ { ControlValue(controls::ExposureTimeModeAuto),
						     ControlValue(controls::ExposureTimeModeManual) } };
	std::array<ControlValue, 2> gainModes{ { ControlValue(controls::AnalogueGainModeAuto),
						 ControlValue(controls::AnalogueGainModeManual) } };
	ControlInfoMap::Map map{
		{ &controls::AeEnable, ControlInfo(false, true, true) },
		{ &controls::ExposureTimeMode, ControlInfo(exposureModes, exposureModes[0]) },
		{ &controls::ExposureTime,
		  ControlInfo(75, static_cast<int32_t>(kMaxDuration - kReadout), 20000) },
		{ &controls::AnalogueGainMode, ControlInfo(gainModes, gainModes[0]) },
		{ &controls::AnalogueGain, ControlInfo(1.0f, kMaxGain, 1.0f) },
		{ &controls::AwbEnable, ControlInfo(false, true, true) },
		{ &controls::ColourGains, ControlInfo(0.0f, 32.0f) },
		{ &controls::Brightness, ControlInfo(-1.0f, 1.0f, 0.0f) },
		{ &controls::Contrast, ControlInfo(0.0f, 32.0f, 1.0f) },
		{ &controls::ScalerCrop, ControlInfo(Rectangle(0, 0, 64, 64), mode.crop, defaultCrop) },
		{ &controls::FrameDurationLimits,
		  ControlInfo(mode.minDuration, kMaxDuration, Span<const int64_t, 2>(limits)) },
		{ &controls::draft::NoiseReductionMode, ControlInfo(controls::draft::NoiseReductionModeValues) },
	};
	controlInfo_ = ControlInfoMap(std::move(map), controls::controls);
}

void SimulatedCamera::apply(const ControlList &list)
{
	if (auto limits = list.get(controls::FrameDurationLimits)) {
		settings.minDuration = std::clamp((*limits)[0], mode.minDuration, kMaxDuration);
		settings.maxDuration = std::clamp((*limits)[1], settings.minDuration, kMaxDuration);
	}
	if (auto value = list.get(controls::ExposureTimeMode))
		settings.autoExposure = *value == controls::ExposureTimeModeAuto;
	if (auto value = list.get(controls::AnalogueGainMode))
		settings.autoGain = *value == controls::AnalogueGainModeAuto;
	/* A value for what is automatic has no effect. */
	if (auto value = list.get(controls::ExposureTime); value && !settings.autoExposure)
		settings.exposure = *value;
	if (auto value = list.get(controls::AnalogueGain); value && !settings.autoGain)
		settings.gain = *value;
	if (auto value = list.get(controls::AwbEnable))
		settings.autoWhite = *value;
	if (auto value = list.get(controls::ColourGains)) {
		settings.autoWhite = false;
		settings.colourGains = { (*value)[0], (*value)[1] };
	}
	if (settings.autoWhite)
		settings.colourGains = { 1.0f, 1.0f };
	settings.brightness = list.get(controls::Brightness).value_or(settings.brightness);
	settings.contrast = list.get(controls::Contrast).value_or(settings.contrast);
	if (auto value = list.get(controls::ScalerCrop))
		settings.crop = value->boundedTo(mode.crop);
}

/* Settles exposure and gain for one frame; returns the time until the next one starts, in us. */
int64_t SimulatedCamera::expose(double durationFactor)
{
	int64_t longest = settings.maxDuration - kReadout;
	if (settings.autoExposure) {
		float aim = std::min<float>(kWellExposed, longest);
		settings.exposure = std::abs(aim - settings.exposure) < 0.02f * aim ? aim : (settings.exposure + aim) / 2;
	}
	settings.exposure = std::clamp<float>(settings.exposure, 1, longest);
	if (settings.autoGain)
		settings.gain = settings.autoExposure
			      ? std::clamp(kWellExposed / std::min<float>(kWellExposed, longest), 1.0f, kMaxGain)
			      : std::clamp(kWellExposed / settings.exposure, 1.0f, kMaxGain);
	int64_t duration = std::max<int64_t>(settings.minDuration, settings.exposure + kReadout);
	return std::llround(duration * durationFactor);
}

/* ---- The pipeline handler: one for each camera, so that each can be unplugged alone ------------------------------ */

class SimulatedSensor : public PipelineHandler
{
public:
	SimulatedSensor(CameraManager *manager);
	~SimulatedSensor();

	bool match(DeviceEnumerator *enumerator) override;
	std::unique_ptr<CameraConfiguration> generateConfiguration(Camera *camera,
								   Span<const StreamRole> roles) override;
	int configure(Camera *camera, CameraConfiguration *config) override;
	int exportFrameBuffers(Camera *camera, Stream *stream,
			       std::vector<std::unique_ptr<FrameBuffer>> *buffers) override;
	int start(Camera *camera, const ControlList *controls) override;

protected:
	bool acquireDevice(Camera *camera) override;
	void releaseDevice(Camera *camera) override;
	int queueRequestDevice(Camera *camera, Request *request) override;
	void stopDevice(Camera *camera) override;

private:
	struct Frame {
		int64_t number = -1;
		int64_t start = 0;		/* ns, CLOCK_MONOTONIC */
		int64_t duration = 0;		/* us, until the next frame starts */
		Request *request = nullptr;	/* none: the frame is lost */
		bool corrupt = false;
	};

	SimulatedCamera *data(Camera *camera) { return static_cast<SimulatedCamera *>(camera->_d()); }
	void tick();
	void begin(int64_t start);
	const char *fate(const Faults &faults);
	void render();
	void deliver();
	void unplug();
	void arm();

	static std::array<bool, kMaxCameras> taken_;
	/* libcamera wants someone else to own them, too: a device enumerator would. */
	static std::array<std::shared_ptr<MediaDevice>, kMaxCameras> media_;

	std::unique_ptr<Bench> bench_;
	Camera *camera_ = nullptr;
	Timer clock_;
	Frame frame_;
	std::deque<Request *> requests_;
	std::map<const FrameBuffer *, MappedFrameBuffer> mapped_;
	DmaBufAllocator allocator_;
	int64_t toSensorClock_ = 0;
	unsigned int completed_ = 0;
	int number_ = -1;
};

std::array<bool, kMaxCameras> SimulatedSensor::taken_{};
std::array<std::shared_ptr<MediaDevice>, kMaxCameras> SimulatedSensor::media_{};

SimulatedSensor::SimulatedSensor(CameraManager *manager)
	: PipelineHandler(manager),
	  allocator_(DmaBufAllocator::DmaBufAllocatorFlag::CmaHeap | DmaBufAllocator::DmaBufAllocatorFlag::UDmaBuf)
{
	clock_.timeout.connect(this, &SimulatedSensor::tick);
}

SimulatedSensor::~SimulatedSensor()
{
	if (number_ >= 0)
		taken_[number_] = false;
}

bool SimulatedSensor::match([[maybe_unused]] DeviceEnumerator *enumerator)
{
	const char *asked = getenv("PPR_SENSOR_CAMERAS");
	unsigned int wanted = asked ? std::min<unsigned int>(strtoul(asked, nullptr, 10), kMaxCameras) : 2;
	auto free = std::find(taken_.begin(), taken_.begin() + wanted, false);
	if (free == taken_.begin() + wanted)
		return false;

	*free = true;
	number_ = free - taken_.begin();
	bench_ = std::make_unique<Bench>(number_);
	/* Never opened; its signal is libcamera's own way of telling that a camera was unplugged. */
	media_[number_] = std::make_shared<MediaDevice>("/dev/simulated" + std::to_string(number_));
	hotplugMediaDevice(media_[number_]);

	auto cameraData = std::make_unique<SimulatedCamera>(this, number_);
	std::set<Stream *> streams;
	for (Stream &stream : cameraData->streams)
		streams.insert(&stream);
	/* picamera2 numbers cameras by descending id. */
	std::string id = "/base/axi/simulated/i2c@" + std::to_string(88000 - 8000 * number_) + "/sensor@10";
	registerCamera(Camera::create(std::move(cameraData), id, streams));
	return true;
}

std::unique_ptr<CameraConfiguration>
SimulatedSensor::generateConfiguration([[maybe_unused]] Camera *camera, Span<const StreamRole> roles)
{
	auto config = std::make_unique<SimulatedConfiguration>();
	std::vector<SizeRange> modes;
	for (const Mode &mode : kModes)
		modes.push_back(SizeRange(mode.size));

	for (StreamRole role : roles) {
		std::map<PixelFormat, std::vector<SizeRange>> offered;
		if (role == StreamRole::Raw) {
			for (const auto &[format, bits] : kRawFormats)
				offered[format] = modes;
		} else {
			for (const PixelFormat &format : kFormats)
				offered[format] = { SizeRange({ kSmallest, kSmallest }, kArray, 2, 2) };
		}
		StreamConfiguration stream{ StreamFormats(offered) };
		stream.pixelFormat = role == StreamRole::Raw ? formats::SRGGB10_CSI2P : formats::XBGR8888;
		stream.size = role == StreamRole::Viewfinder ? Size(800, 600)
			    : role == StreamRole::VideoRecording ? Size(1920, 1080) : kArray;
		stream.bufferCount = kDefaultBuffers;
		config->addConfiguration(stream);
	}
	if (!roles.empty())
		config->validate();
	return config;
}

int SimulatedSensor::configure(Camera *camera, CameraConfiguration *config)
{
	SimulatedCamera *camData = data(camera);
	camData->mode = *modeOf(*config);
	camData->transform = transformOf(*config);
	camData->pictures.clear();
	camData->defaultCrop = camData->mode.crop;
	bool first = true;
	for (unsigned int i = 0; i < config->size(); i++) {
		StreamConfiguration &stream = config->at(i);
		stream.setStream(&camData->streams[i]);
		if (isRaw(stream))
			continue;
		camData->pictures[stream.stream()].configure(stream.pixelFormat, stream.size, stream.stride);
		if (first)
			camData->defaultCrop = centred(camData->mode.crop, stream.size);
		first = false;
	}
	camData->setControls();
	return 0;
}

int SimulatedSensor::exportFrameBuffers([[maybe_unused]] Camera *camera, Stream *stream,
					std::vector<std::unique_ptr<FrameBuffer>> *buffers)
{
	const StreamConfiguration &config = stream->configuration();
	return allocator_.isValid() ? allocator_.exportBuffers(config.bufferCount, { config.frameSize }, buffers)
				    : -ENOBUFS;
}

bool SimulatedSensor::acquireDevice([[maybe_unused]] Camera *camera)
{
	return bench_->lock();
}

void SimulatedSensor::releaseDevice([[maybe_unused]] Camera *camera)
{
	bench_->unlock();
}

int SimulatedSensor::start(Camera *camera, const ControlList *controls)
{
	const char *asked = getenv("PPR_SENSOR_CLOCK");
	bool monotonic = asked && std::string(asked) == "monotonic";
	toSensorClock_ = monotonic ? 0 : now(CLOCK_BOOTTIME) - now(CLOCK_MONOTONIC);

	camera_ = camera;
	SimulatedCamera *camData = data(camera);
	camData->settings = {};
	camData->settings.crop = camData->defaultCrop;
	camData->apply(ControlList(controls::controls));
	if (controls)
		camData->apply(*controls);
	completed_ = 0;

	bench_->open();
	std::ostringstream line;
	line << "start " << camData->mode.size;
	bench_->write(line.str());
	frame_ = { -1, now(CLOCK_MONOTONIC) + std::chrono::nanoseconds(kStartUp).count(), 0, nullptr, false };
	arm();
	return 0;
}

void SimulatedSensor::stopDevice(Camera *camera)
{
	clock_.stop();
	bench_->write("stop");
	bench_->close();
	requests_.clear();
	frame_ = {};
	SimulatedCamera *camData = data(camera);
	while (!camData->queuedRequests_.empty())
		cancelRequest(camData->queuedRequests_.front());
	/* Buffers may be freed and others be allocated at the same addresses before the next start. */
	mapped_.clear();
	camera_ = nullptr;
}

int SimulatedSensor::queueRequestDevice([[maybe_unused]] Camera *camera, Request *request)
{
	requests_.push_back(request);
	return 0;
}

/* ---- The frame clock ---------------------------------------------------------------------------------------------- */

void SimulatedSensor::arm()
{
	auto end = std::chrono::nanoseconds(frame_.start + 1000 * frame_.duration);
	clock_.start(std::chrono::steady_clock::time_point(end));
}

/*
 * The end of one frame is the start of the next. When the machine is late the sensor's times are not: the frame is
 * delivered late, with the time at which it was due.
 */
void SimulatedSensor::tick()
{
	int64_t next = frame_.start + 1000 * frame_.duration;
	deliver();
	if (bench_->faults().disconnects(frame_.number + 1))
		unplug();
	else
		begin(next);
}

void SimulatedSensor::begin(int64_t start)
{
	frame_ = { frame_.number + 1, start, 0, nullptr, false };
	SimulatedCamera *camData = data(camera_);
	const Faults &faults = bench_->faults();
	const char *word = fate(faults);
	if (frame_.request)
		camData->apply(frame_.request->controls());
	frame_.duration = camData->expose(faults.durationFactor);
	frame_.corrupt = frame_.request && faults.corrupts(frame_.number);

	std::ostringstream line;
	line << "frame " << frame_.number << ' ' << frame_.start + toSensorClock_ << ' ' << frame_.duration << ' '
	     << (frame_.corrupt ? "corrupt" : word);
	bench_->write(line.str());
	arm();
}

/* A frame needs a buffer when it starts; without one it is lost, as on a real sensor. */
const char *SimulatedSensor::fate(const Faults &faults)
{
	if (faults.stalls(frame_.number))
		return "stalled";
	if (faults.drops(frame_.number))
		return "dropped";
	if (requests_.empty())
		return "starved";
	frame_.request = requests_.front();
	requests_.pop_front();
	return "delivered";
}

void SimulatedSensor::render()
{
	SimulatedCamera *camData = data(camera_);
	const Settings &settings = camData->settings;
	Look look{ camData->number, kArray, settings.crop, camData->transform,
		   settings.exposure * settings.gain / kWellExposed, settings.brightness, settings.contrast,
		   settings.colourGains[0], settings.colourGains[1] };
	uint32_t number = camData->number << 28 | (frame_.number & 0xfffffff);

	for (const auto &[stream, buffer] : frame_.request->buffers()) {
		auto picture = camData->pictures.find(stream);
		if (picture == camData->pictures.end())
			continue;
		auto mapped = mapped_.try_emplace(buffer, buffer, MappedFrameBuffer::MapFlag::ReadWrite).first;
		picture->second.draw(look, number, mapped->second.planes());
	}
}

void SimulatedSensor::deliver()
{
	Request *request = frame_.request;
	if (!request)
		return;

	render();
	const SimulatedCamera *camData = data(camera_);
	const Settings &settings = camData->settings;
	ControlList &metadata = request->_d()->metadata();
	metadata.set(controls::SensorTimestamp, frame_.start + toSensorClock_);
	if (!bench_->faults().hideDuration)
		metadata.set(controls::FrameDuration, frame_.duration);
	metadata.set(controls::ExposureTime, static_cast<int32_t>(settings.exposure));
	metadata.set(controls::AnalogueGain, settings.gain);
	metadata.set(controls::DigitalGain, 1.0f);
	metadata.set(controls::ColourGains, Span<const float, 2>(settings.colourGains));
	metadata.set(controls::ColourTemperature, 5000);
	metadata.set(controls::Lux, 400.0f);
	metadata.set(controls::ScalerCrop, settings.crop);
	metadata.set(controls::SensorTemperature, 43.0f);

	for (const auto &[stream, buffer] : request->buffers()) {
		FrameMetadata &frame = buffer->_d()->metadata();
		frame.status = frame_.corrupt ? FrameMetadata::FrameError : FrameMetadata::FrameSuccess;
		/* Counts what was completed, so it shows no loss: like some drivers' do. */
		frame.sequence = completed_;
		frame.timestamp = frame_.start + toSensorClock_;
		for (unsigned int i = 0; i < buffer->planes().size(); i++)
			frame.planes()[i].bytesused = buffer->planes()[i].length;
		completeBuffer(request, buffer);
	}
	completed_++;
	completeRequest(request);
}

void SimulatedSensor::unplug()
{
	LOG(Sensor, Info) << "Camera " << number_ << " is unplugged";
	bench_->write("unplugged");
	/* The camera may drop its last reference to this handler in the signal. */
	auto self = shared_from_this();
	media_[number_]->disconnected.emit();
}

REGISTER_PIPELINE_HANDLER(SimulatedSensor, "virtual")

} /* namespace libcamera */
