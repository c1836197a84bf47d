#include "bench.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace libcamera {

bool Faults::every(const std::string &key, int64_t frame) const
{
	int64_t n = first(key, 0);
	return n > 0 && frame > 0 && frame % n == 0;
}

int64_t Faults::first(const std::string &key, int64_t otherwise) const
{
	auto found = frames.find(key);
	return found == frames.end() || found->second.empty() ? otherwise : *found->second.begin();
}

bool Faults::drops(int64_t frame) const
{
	auto found = frames.find("drop");
	return every("drop_every", frame) || (found != frames.end() && found->second.count(frame));
}

bool Faults::stalls(int64_t frame) const
{
	return frame >= first("stall_from", INT64_MAX) && frame < first("stall_until", INT64_MAX);
}

bool Faults::corrupts(int64_t frame) const
{
	return every("error_every", frame);
}

bool Faults::disconnects(int64_t frame) const
{
	return frame >= first("disconnect_at", INT64_MAX);
}

Bench::Bench(unsigned int camera)
	: camera_(camera)
{
}

Bench::~Bench()
{
	close();
	unlock();
}

std::string Bench::path(const char *suffix) const
{
	return directory_ + "/camera" + std::to_string(camera_) + suffix;
}

/* The folder is asked for anew each time: one process may use a camera for several tests. */
bool Bench::lock()
{
	const char *directory = getenv("PPR_SENSOR_DIR");
	directory_ = directory ? directory : "";
	readAt_ = -1;
	if (directory_.empty())
		return true;
	lock_ = ::open(path(".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
	if (lock_ >= 0 && flock(lock_, LOCK_EX | LOCK_NB) == 0)
		return true;
	unlock();
	return false;
}

void Bench::unlock()
{
	if (lock_ >= 0)
		::close(lock_);
	lock_ = -1;
}

void Bench::open()
{
	if (!directory_.empty())
		ledger_ = ::open(path(".ledger").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
}

void Bench::close()
{
	if (ledger_ >= 0)
		::close(ledger_);
	ledger_ = -1;
}

/* One write a line, appended: a reader sees whole lines. */
void Bench::write(const std::string &line)
{
	if (ledger_ >= 0 && ::write(ledger_, (line + "\n").data(), line.size() + 1) < 0)
		close();
}

/* The file is replaced as a whole by whoever changes it, so a new modification time means a complete new text. */
const Faults &Bench::faults()
{
	struct stat status = {};
	int64_t changed = directory_.empty() || stat(path(".faults").c_str(), &status) ? 0
			: status.st_mtim.tv_sec * 1000000000LL + status.st_mtim.tv_nsec;
	if (changed == readAt_)
		return faults_;

	readAt_ = changed;
	faults_ = {};
	std::ifstream file(path(".faults"));
	for (std::string line; std::getline(file, line);) {
		std::istringstream words(line);
		std::string key;
		words >> key;
		if (key == "duration_factor")
			words >> faults_.durationFactor;
		else if (key == "hide_duration")
			words >> faults_.hideDuration;
		else
			for (int64_t frame; words >> frame;)
				faults_.frames[key].insert(frame);
	}
	return faults_;
}

} /* namespace libcamera */
