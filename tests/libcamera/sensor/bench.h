/* The test's side of a simulated camera: which faults it is to have, and the ledger of what it truly did. */

#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>

#include <sys/types.h>

namespace libcamera {

/* What the test asked for in DIR/cameraN.faults: lines of `key value …`; a missing file means no faults. */
struct Faults {
	std::map<std::string, std::set<int64_t>> frames;	/* stall_from, stall_until, drop, drop_every, … */
	double durationFactor = 1.0;				/* the real frame duration over the one that was asked for */
	bool hideDuration = false;				/* leave FrameDuration out of the metadata */

	bool drops(int64_t frame) const;
	bool stalls(int64_t frame) const;
	bool corrupts(int64_t frame) const;
	bool disconnects(int64_t frame) const;

private:
	bool every(const std::string &key, int64_t frame) const;
	int64_t first(const std::string &key, int64_t otherwise) const;
};

/* Reads the faults and writes the ledger of one camera, both in the folder that PPR_SENSOR_DIR names. */
class Bench
{
public:
	explicit Bench(unsigned int camera);
	~Bench();

	/* Exclusive use among processes, as a real sensor's media device has it. Without a folder always granted. */
	bool lock();
	void unlock();

	void open();
	void close();
	const Faults &faults();
	void write(const std::string &line);

private:
	std::string path(const char *suffix) const;

	std::string directory_;
	unsigned int camera_;
	Faults faults_;
	int64_t readAt_ = -1;
	int lock_ = -1;
	int ledger_ = -1;
};

} /* namespace libcamera */
